import type { Backend } from './backend.js'
import type { Receiver, Wire } from './client-wire.js'
import type { ExportName } from './exports.js'
import { Intake } from './intake.js'
import { handshakeFlag, info, magic, option, optionReply, size } from './protocol.js'

/** What a server and the client agreed on. */
export interface Agreement {
  readonly sizeBytes: number
  /** The protocol's transmission flags. */
  readonly flags: number
  readonly structured: boolean
  readonly blockSizes: Backend['blockSizes']
  /** The ids of the contexts that the server knows and the client asked for, with their names. */
  readonly contexts: ReadonlyMap<number, string>
  readonly description: string | undefined
}

/** More than an honest server ever sends in one reply, or in reply to one option. */
const longestReplyBytes = 64 * 1024
const mostReplies = 10_000
const mostHeldBytes = 1024 * 1024

const replyNames: Readonly<Record<number, string>> = {
  [optionReply.errorUnsupported]: 'not supported',
  [optionReply.errorPolicy]: 'not allowed',
  [optionReply.errorInvalid]: 'invalid',
  [optionReply.errorUnknown]: 'unknown export',
  [optionReply.errorShutdown]: 'shutting down',
  [optionReply.errorTooBig]: 'too big',
}

interface OptionResult {
  readonly replies: readonly { readonly type: number; readonly data: Buffer }[]
  /** The error that ended it, or undefined. */
  readonly error: { readonly type: number; readonly text: string } | undefined
}

/** The client's half of newstyle negotiation. Throws a plain Error for what a server must not say. */
export class ClientHandshake implements Receiver {
  readonly #intake = new Intake()
  #wire: Wire | undefined
  #noZeroes = false
  #fixed = false

  target(): undefined {
    return undefined
  }

  received(bytes: Uint8Array): void {
    this.#intake.push(Buffer.from(bytes))
    if (this.#intake.heldBytes > mostHeldBytes) throw new Error('it talks on and on in the handshake')
  }

  failed(reason: unknown): void {
    this.#intake.fail(reason)
  }

  async greet(wire: Wire): Promise<void> {
    this.#wire = wire
    const greeting = await this.#intake.take(16)
    if (greeting.readUInt32BE(0) !== magic.initHigh || greeting.readUInt32BE(4) !== magic.initLow) {
      throw new Error('this is not an NBD server')
    }
    if (greeting.readUInt32BE(8) !== magic.optionHigh || greeting.readUInt32BE(12) !== magic.optionLow) {
      const [high, low] = [greeting.readUInt32BE(8), greeting.readUInt32BE(12)]
      const oldstyle = high === magic.oldstyleHigh && low === magic.oldstyleLow
      throw new Error(oldstyle ? 'it speaks only the oldstyle handshake' : 'bad magic in the handshake')
    }
    const offered = (await this.#intake.take(2)).readUInt16BE()
    const flags = offered & (handshakeFlag.fixedNewstyle | handshakeFlag.noZeroes)
    this.#fixed = (flags & handshakeFlag.fixedNewstyle) !== 0
    this.#noZeroes = (flags & handshakeFlag.noZeroes) !== 0
    wire.send(u32(flags))
  }

  async list(): Promise<ExportName[]> {
    const { replies, error } = await this.#ask(option.list)
    if (error !== undefined) throw new Error(`it does not list its exports: ${error.text}`)
    return replies.filter(({ type }) => type === optionReply.server).map(({ data }) => exportName(data))
  }

  async abort(): Promise<void> {
    if (this.#fixed) await this.#ask(option.abort)
  }

  async go(name: string, contextNames: readonly string[]): Promise<Agreement> {
    if (!this.#fixed) return this.#exportName(name, false, new Map())
    const structured = (await this.#ask(option.structuredReply)).error === undefined
    const contexts = structured && contextNames.length > 0 ? await this.#select(name, contextNames) : new Map()
    const wanted = [info.blockSize, info.description]
    const data = Buffer.concat([lengthAnd(name), u16(wanted.length), ...wanted.map(u16)])
    const { replies, error } = await this.#ask(option.go, data)
    if (error?.type === optionReply.errorUnsupported) return this.#exportName(name, structured, contexts)
    if (error !== undefined) throw new Error(`it does not give the export '${name}': ${error.text}`)
    this.#assertQuiet()
    return agreement(replies.filter(({ type }) => type === optionReply.info), structured, contexts)
  }

  async #select(name: string, queries: readonly string[]): Promise<Map<number, string>> {
    const data = Buffer.concat([lengthAnd(name), u32(queries.length), ...queries.map(lengthAnd)])
    const { replies, error } = await this.#ask(option.setMetaContext, data)
    const contexts = new Map<number, string>()
    if (error?.type === optionReply.errorUnsupported) return contexts
    if (error !== undefined) throw new Error(`it refused the contexts ${queries.join(', ')}: ${error.text}`)
    for (const { type, data: reply } of replies) {
      if (type !== optionReply.metaContext || reply.length < 4) throw new Error('a malformed meta context')
      const context = reply.toString('utf8', 4)
      if (!queries.includes(context)) throw new Error(`it selected '${context}', which nobody asked for`)
      contexts.set(reply.readUInt32BE(), context)
    }
    if (new Set(contexts.values()).size !== replies.length) throw new Error('it selected a context twice')
    return contexts
  }

  async #exportName(name: string, structured: boolean, contexts: ReadonlyMap<number, string>): Promise<Agreement> {
    this.#sendOption(option.exportName, Buffer.from(name))
    const reply = await this.#intake.take(10)
    if (!this.#noZeroes) await this.#intake.skip(124)
    this.#assertQuiet()
    return agreement([{ data: Buffer.concat([u16(info.export), reply]) }], structured, contexts)
  }

  async #ask(type: number, data: Buffer = Buffer.alloc(0)): Promise<OptionResult> {
    this.#sendOption(type, data)
    const replies: { type: number; data: Buffer }[] = []
    for (;;) {
      const header = await this.#intake.take(size.optionReplyHeader)
      if (header.readUInt32BE(0) !== magic.optionReplyHigh || header.readUInt32BE(4) !== magic.optionReplyLow) {
        throw new Error('bad magic in the reply to an option')
      }
      if (header.readUInt32BE(8) !== type) throw new Error('a reply to an option that was not sent')
      const replyType = header.readUInt32BE(12)
      const length = header.readUInt32BE(16)
      if (length > longestReplyBytes) throw new Error(`a reply of ${length} bytes to an option`)
      const reply = Buffer.from(await this.#intake.take(length))
      if (replyType === optionReply.ack) return { replies, error: undefined }
      if (replyType >= 2 ** 31) {
        const text = [replyNames[replyType] ?? `error ${replyType - 2 ** 31}`, reply.toString().slice(0, size.string)]
        return { replies, error: { type: replyType, text: text.filter(Boolean).join(': ') } }
      }
      replies.push({ type: replyType, data: reply })
      if (replies.length > mostReplies) throw new Error(`more than ${mostReplies} replies to one option`)
    }
  }

  #sendOption(type: number, data: Buffer): void {
    const header = Buffer.alloc(size.optionHeader)
    header.writeUInt32BE(magic.optionHigh, 0)
    header.writeUInt32BE(magic.optionLow, 4)
    header.writeUInt32BE(type, 8)
    header.writeUInt32BE(data.length, 12)
    this.#wire?.send(header, data)
  }

  #assertQuiet(): void {
    if (this.#intake.heldBytes > 0) throw new Error('it replied before it was asked')
  }
}

function exportName(data: Buffer): ExportName {
  const length = data.length < 4 ? data.length : data.readUInt32BE()
  if (length > data.length - 4) throw new Error('a malformed export name')
  const description = data.toString('utf8', 4 + length)
  return { name: data.toString('utf8', 4, 4 + length), ...(description === '' ? {} : { description }) }
}

function agreement(
  infos: readonly { readonly data: Buffer }[],
  structured: boolean,
  contexts: ReadonlyMap<number, string>,
): Agreement {
  let exported: { sizeBytes: number; flags: number } | undefined
  let blockSizes = { minimum: 1, preferred: 4096, maximum: size.maximumPayload }
  let description: string | undefined
  for (const { data } of infos) {
    const type = data.length < 2 ? -1 : data.readUInt16BE()
    if (type === info.export) {
      if (data.length !== 12) throw new Error('malformed export information')
      const sizeBytes = Number(data.readBigUInt64BE(2))
      if (!Number.isSafeInteger(sizeBytes)) throw new Error(`an impossible size of ${sizeBytes} bytes`)
      exported = { sizeBytes, flags: data.readUInt16BE(10) }
    } else if (type === info.blockSize) blockSizes = blockSizesOf(data)
    else if (type === info.description) description = data.toString('utf8', 2)
  }
  if (exported === undefined) throw new Error('it said nothing about the export')
  return { ...exported, structured, blockSizes, contexts, description }
}

function blockSizesOf(data: Buffer): Backend['blockSizes'] {
  if (data.length !== 14) throw new Error('malformed block sizes')
  const minimum = data.readUInt32BE(2)
  const preferred = data.readUInt32BE(6)
  const maximum = Math.min(data.readUInt32BE(10), size.maximumPayload)
  const power = minimum > 0 && minimum <= 65_536 && (minimum & (minimum - 1)) === 0
  if (!power || preferred < minimum || maximum < minimum) {
    throw new Error(`impossible block sizes ${minimum}, ${preferred}, ${maximum}`)
  }
  return { minimum, preferred, maximum: maximum - (maximum % minimum) }
}

function lengthAnd(text: string): Buffer {
  const bytes = Buffer.from(text)
  return Buffer.concat([u32(bytes.length), bytes])
}

function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2)
  bytes.writeUInt16BE(value)
  return bytes
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}
