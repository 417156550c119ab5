import type { Backend, MetaContext } from './backend.js'
import type { ExportLookup } from './exports.js'
import { info, optionReply, size, transmissionFlag } from './protocol.js'

/** One reply to an option: its type and its data. */
export interface OptionReply {
  readonly type: number
  readonly data?: Uint8Array
}

/** The data of an option is not what the protocol says. */
export class InvalidOption extends Error {}

const mostQueries = 256
const mostContexts = 16

/** Reads the fields of an option's data, each checked against what is left. */
export class OptionFields {
  readonly #data: Buffer
  #at = 0

  constructor(data: Buffer) {
    this.#data = data
  }

  u16(): number {
    return this.#data.readUInt16BE(this.#advance(2))
  }

  u32(): number {
    return this.#data.readUInt32BE(this.#advance(4))
  }

  string(): string {
    const length = this.u32()
    if (length > size.string) throw new InvalidOption(`a string of ${length} bytes`)
    const at = this.#advance(length)
    const text = this.#data.toString('utf8', at, at + length)
    if (text.includes('\0')) throw new InvalidOption('a NUL in a string')
    return text
  }

  end(): void {
    if (this.#at !== this.#data.length) throw new InvalidOption(`${this.#data.length - this.#at} bytes too many`)
  }

  #advance(bytes: number): number {
    const at = this.#at
    if (bytes > this.#data.length - at) throw new InvalidOption(`${bytes - (this.#data.length - at)} bytes too few`)
    this.#at += bytes
    return at
  }
}

export function failure(type: number, message: string): OptionReply {
  return { type, data: Buffer.from(message.slice(0, 1024)) }
}

export function listReplies(exports: ExportLookup): OptionReply[] {
  const replies = exports.list().map(({ name, description = '' }) => {
    const nameBytes = Buffer.from(name)
    const data = Buffer.concat([u32(nameBytes.length), nameBytes, Buffer.from(description)])
    return { type: optionReply.server, data }
  })
  return [...replies, { type: optionReply.ack }]
}

/** What INFO and GO ask about. */
export interface InfoRequest {
  readonly name: string
  readonly wanted: readonly number[]
}

export function parseInfo(data: Buffer): InfoRequest {
  const fields = new OptionFields(data)
  const name = fields.string()
  const wanted = Array.from({ length: fields.u16() }, () => fields.u16())
  fields.end()
  return { name, wanted }
}

export function infoReplies(
  request: InfoRequest,
  backend: Backend,
  exports: ExportLookup,
  structured: boolean,
): OptionReply[] {
  const replies: OptionReply[] = [infoReply(info.export, exportSizeAndFlags(backend, structured))]
  if (request.wanted.includes(info.blockSize)) {
    const { minimum, preferred } = backend.blockSizes
    replies.push(infoReply(info.blockSize, u32(minimum), u32(preferred), u32(largestRequest(backend))))
  }
  const canonical = exports.list().find(({ name }, _, all) => name === request.name || all.length === 1)
  if (request.wanted.includes(info.name)) {
    replies.push(infoReply(info.name, Buffer.from(canonical?.name ?? request.name)))
  }
  if (request.wanted.includes(info.description) && canonical?.description !== undefined) {
    replies.push(infoReply(info.description, Buffer.from(canonical.description)))
  }
  return [...replies, { type: optionReply.ack }]
}

export function exportSizeAndFlags(backend: Backend, structured: boolean): Buffer {
  const flags =
    transmissionFlag.hasFlags |
    transmissionFlag.sendFlush |
    transmissionFlag.sendFua |
    transmissionFlag.canMultiConn |
    (structured ? transmissionFlag.sendDf : 0) |
    (backend.readOnly
      ? transmissionFlag.readOnly
      : transmissionFlag.sendTrim | transmissionFlag.sendWriteZeroes | transmissionFlag.sendFastZero)
  const bytes = Buffer.alloc(10)
  bytes.writeBigUInt64BE(BigInt(backend.sizeBytes))
  bytes.writeUInt16BE(flags, 8)
  return bytes
}

/** The longest READ or WRITE that is taken, in bytes: the backend's and the protocol's limits. */
export function largestRequest(backend: Backend): number {
  const { minimum, maximum } = backend.blockSizes
  const largest = Math.min(maximum, size.maximumPayload)
  return largest - (largest % minimum)
}

export interface MetaQuery {
  readonly name: string
  readonly queries: readonly string[]
}

export function parseMetaQuery(data: Buffer): MetaQuery {
  const fields = new OptionFields(data)
  const name = fields.string()
  const count = fields.u32()
  if (count > mostQueries) throw new InvalidOption(`${count} queries`)
  const queries = Array.from({ length: count }, () => fields.string())
  fields.end()
  const unnamed = queries.find((query) => !/^[^:]+:/u.test(query))
  if (unnamed !== undefined) throw new InvalidOption(`the query '${unnamed.slice(0, 80)}' has no namespace`)
  return { name, queries }
}

/** The names that a LIST query finds: all for no query, a namespace's for `namespace:`, else exact ones. */
export async function listContexts(queries: readonly string[], backend: Backend): Promise<string[]> {
  if (queries.length === 0) return backend.contexts.map(({ name }) => name)
  const found = new Set<string>()
  for (const query of queries) {
    const wild = query.endsWith(':')
    for (const { name } of backend.contexts) if (name === query || (wild && name.startsWith(query))) found.add(name)
    if (!wild && !found.has(query) && (await backend.openContext(query)) !== undefined) found.add(query)
    if (found.size > mostQueries) throw new InvalidOption('too many contexts')
  }
  return [...found]
}

/** The contexts that a SET query selects, in its order; what the backend does not know is left out. */
export async function openContexts(queries: readonly string[], backend: Backend): Promise<MetaContext[]> {
  const opened = new Map<string, MetaContext>()
  for (const query of queries) {
    if (query.endsWith(':') || opened.has(query)) continue
    const context = backend.contexts.find(({ name }) => name === query) ?? (await backend.openContext(query))
    if (context !== undefined) opened.set(query, context)
    if (opened.size > mostContexts) throw new InvalidOption(`more than ${mostContexts} contexts`)
  }
  return [...opened.values()]
}

export function contextReply(id: number, name: string): OptionReply {
  return { type: optionReply.metaContext, data: Buffer.concat([u32(id), Buffer.from(name)]) }
}

function infoReply(type: number, ...data: Uint8Array[]): OptionReply {
  const head = Buffer.alloc(2)
  head.writeUInt16BE(type)
  return { type: optionReply.info, data: Buffer.concat([head, ...data]) }
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}
