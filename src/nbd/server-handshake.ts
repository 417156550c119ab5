import type { Backend, MetaContext } from './backend.js'
import type { ExportLookup } from './exports.js'
import type { Intake } from './intake.js'
import { handshakeFlag, magic, option, optionReply, size } from './protocol.js'
import {
  contextReply, exportSizeAndFlags, failure, infoReplies, InvalidOption, listContexts, listReplies, type MetaQuery,
  openContexts, type OptionReply, parseInfo, parseMetaQuery,
} from './server-options.js'

/** What a client and the server agreed on. */
export interface Session {
  readonly backend: Backend
  readonly structured: boolean
  /** Selected contexts; a context's id is its index here plus one. */
  readonly contexts: readonly MetaContext[]
}

export interface HandshakePeer {
  readonly intake: Intake
  /** Resolves when the client has taken enough of it that more may be sent. */
  send(bytes: Uint8Array): Promise<void>
}

/** A client that asks more than this is not haggling but flooding. */
const mostOptions = 1024
const longestOptionBytes = 16 * 1024
const longestSkippedBytes = 1024 * 1024

/**
 * The server's half of fixed newstyle negotiation.
 * @returns undefined when the client left in peace or has to be disconnected.
 */
export async function negotiate(peer: HandshakePeer, exports: ExportLookup): Promise<Session | undefined> {
  await peer.send(greeting())
  const flags = (await peer.intake.take(4)).readUInt32BE()
  const known = handshakeFlag.fixedNewstyle | handshakeFlag.noZeroes
  if ((flags & ~known) !== 0) return undefined
  return new Haggling(peer, exports, flags).run()
}

class Haggling {
  readonly #peer: HandshakePeer
  readonly #exports: ExportLookup
  readonly #clientFlags: number
  #structured = false
  #selected: { readonly name: string; readonly contexts: readonly MetaContext[] } | undefined
  #session: Session | undefined

  constructor(peer: HandshakePeer, exports: ExportLookup, clientFlags: number) {
    this.#peer = peer
    this.#exports = exports
    this.#clientFlags = clientFlags
  }

  async run(): Promise<Session | undefined> {
    for (let count = 0; count < mostOptions; count++) {
      const header = await this.#peer.intake.take(size.optionHeader)
      if (header.readUInt32BE(0) !== magic.optionHigh || header.readUInt32BE(4) !== magic.optionLow) return undefined
      const type = header.readUInt32BE(8)
      const length = header.readUInt32BE(12)
      const fixed = (this.#clientFlags & handshakeFlag.fixedNewstyle) !== 0
      if (!fixed && type !== option.exportName) return undefined
      if (length > longestOptionBytes) {
        if (length > longestSkippedBytes || type === option.exportName) return undefined
        await this.#peer.intake.skip(length)
        await this.#reply(type, [failure(optionReply.errorTooBig, `${length} bytes of option data`)])
        continue
      }
      // Copied: the view may be of a socket's chunk, which is not to be kept alive while replies wait.
      const data = Buffer.from(await this.#peer.intake.take(length))
      if (type === option.exportName) return this.#exportName(data)
      await this.#reply(type, await this.#answer(type, data))
      if (type === option.abort || this.#session !== undefined) return this.#session
    }
    return undefined
  }

  async #exportName(data: Buffer): Promise<Session | undefined> {
    const name = data.toString('utf8')
    const backend = data.length > size.string ? undefined : await this.#exports.open(name)
    if (backend === undefined) return undefined
    const noZeroes = (this.#clientFlags & handshakeFlag.noZeroes) !== 0
    await this.#peer.send(
      Buffer.concat([exportSizeAndFlags(backend, this.#structured), Buffer.alloc(noZeroes ? 0 : 124)]),
    )
    return this.#sessionOf(name, backend)
  }

  async #answer(type: number, data: Buffer): Promise<OptionReply[]> {
    try {
      if (type === option.abort) return [{ type: optionReply.ack }]
      if (type === option.list) return this.#without(data, () => listReplies(this.#exports))
      if (type === option.structuredReply) {
        return this.#without(data, () => {
          this.#structured = true
          return [{ type: optionReply.ack }]
        })
      }
      if (type === option.info || type === option.go) return await this.#info(type, data)
      if (type === option.listMetaContext) return await this.#listMetaContexts(parseMetaQuery(data))
      if (type === option.setMetaContext) {
        // Even a SET that fails ends what an earlier one selected.
        this.#selected = undefined
        return await this.#setMetaContexts(parseMetaQuery(data))
      }
      return [failure(optionReply.errorUnsupported, `option ${type} is unknown here`)]
    } catch (error) {
      if (error instanceof InvalidOption) return [failure(optionReply.errorInvalid, error.message)]
      return [failure(optionReply.errorPolicy, error instanceof Error ? error.message : String(error))]
    }
  }

  #without(data: Buffer, answer: () => OptionReply[]): OptionReply[] {
    if (data.length > 0) throw new InvalidOption(`${data.length} bytes of data with an option that has none`)
    return answer()
  }

  async #info(type: number, data: Buffer): Promise<OptionReply[]> {
    const request = parseInfo(data)
    const backend = await this.#exports.open(request.name)
    if (backend === undefined) return [unknownExport(request.name)]
    if (type === option.go) this.#session = this.#sessionOf(request.name, backend)
    return infoReplies(request, backend, this.#exports, this.#structured)
  }

  async #listMetaContexts({ name, queries }: MetaQuery): Promise<OptionReply[]> {
    const backend = await this.#exports.open(name)
    if (backend === undefined) return [unknownExport(name)]
    const names = await listContexts(queries, backend)
    return [...names.map((context) => contextReply(0, context)), { type: optionReply.ack }]
  }

  async #setMetaContexts({ name, queries }: MetaQuery): Promise<OptionReply[]> {
    if (!this.#structured) throw new InvalidOption('structured replies must be negotiated first')
    const backend = await this.#exports.open(name)
    if (backend === undefined) return [unknownExport(name)]
    const contexts = await openContexts(queries, backend)
    this.#selected = { name, contexts }
    return [...contexts.map((context, index) => contextReply(index + 1, context.name)), { type: optionReply.ack }]
  }

  #sessionOf(name: string, backend: Backend): Session {
    const contexts = this.#selected?.name === name ? this.#selected.contexts : []
    return { backend, structured: this.#structured, contexts }
  }

  async #reply(type: number, replies: readonly OptionReply[]): Promise<void> {
    for (const reply of replies) {
      const data = reply.data ?? new Uint8Array(0)
      const bytes = Buffer.alloc(size.optionReplyHeader + data.length)
      bytes.writeUInt32BE(magic.optionReplyHigh, 0)
      bytes.writeUInt32BE(magic.optionReplyLow, 4)
      bytes.writeUInt32BE(type, 8)
      bytes.writeUInt32BE(reply.type, 12)
      bytes.writeUInt32BE(data.length, 16)
      bytes.set(data, size.optionReplyHeader)
      await this.#peer.send(bytes)
    }
  }
}

function greeting(): Buffer {
  const bytes = Buffer.alloc(18)
  bytes.writeUInt32BE(magic.initHigh, 0)
  bytes.writeUInt32BE(magic.initLow, 4)
  bytes.writeUInt32BE(magic.optionHigh, 8)
  bytes.writeUInt32BE(magic.optionLow, 12)
  bytes.writeUInt16BE(handshakeFlag.fixedNewstyle | handshakeFlag.noZeroes, 16)
  return bytes
}

function unknownExport(name: string): OptionReply {
  return failure(optionReply.errorUnknown, `there is no export named '${name.slice(0, 256)}'`)
}
