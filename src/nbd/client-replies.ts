import type { StatusRun } from './backend.js'
import type { Receiver } from './client-wire.js'
import { Coverage } from './coverage.js'
import { chunk, command, magic, nbdError, replyFlag, size } from './protocol.js'

/** A request that waits for its reply. */
export interface Pending {
  readonly type: number
  readonly offset: number
  readonly length: number
  /** Where a read's bytes go. */
  readonly into: Uint8Array | undefined
  readonly coverage: Coverage
  readonly runs: Map<number, readonly StatusRun[]>
  error: { readonly name: string; readonly message: string } | undefined
  readonly settle: (failure: { readonly reason: unknown } | undefined) => void
}

const longestStatusBytes = 4 + 8 * 1024 * 1024
const longestErrorBytes = 64 * 1024
const errorNames = new Map<number, string>(Object.entries(nbdError).map(([name, number]) => [number, name]))

/** Cuts the server's bytes into replies, and puts the bytes of reads where their readers want them, uncopied. */
export class ReplyStream implements Receiver {
  readonly #structured: boolean
  readonly #contextIds: ReadonlySet<number>
  readonly pending = new Map<number, Pending>()
  #field = Buffer.alloc(size.chunkHeader)
  #have = 0
  #need: number = size.simpleReply
  #step: () => void = () => this.#simpleHeader()
  /** The bytes of a read that are coming now: where the rest of them goes. */
  #data: Uint8Array | undefined
  #afterData: () => void = () => {}
  #direct = false
  #failure: { readonly reason: unknown } | undefined

  constructor(structured: boolean, contextIds: ReadonlySet<number>) {
    this.#structured = structured
    this.#contextIds = contextIds
  }

  get failure(): { readonly reason: unknown } | undefined {
    return this.#failure
  }

  target(): Uint8Array | undefined {
    this.#direct = this.#data !== undefined
    return this.#data
  }

  received(bytes: Uint8Array): void {
    const data = this.#data
    if (this.#direct && data !== undefined) this.#dataArrived(data, bytes.length)
    else this.#consume(bytes)
  }

  failed(reason: unknown): void {
    this.#failure ??= { reason }
    const pending = [...this.pending.values()]
    this.pending.clear()
    for (const request of pending) request.settle(this.#failure)
  }

  #consume(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length;) {
      const data = this.#data
      if (data !== undefined) {
        const part = bytes.subarray(at, at + data.length)
        data.set(part)
        at += part.length
        this.#dataArrived(data, part.length)
      } else {
        const part = bytes.subarray(at, at + this.#need - this.#have)
        this.#field.set(part, this.#have)
        this.#have += part.length
        at += part.length
        if (this.#have === this.#need) this.#step()
      }
    }
  }

  #dataArrived(data: Uint8Array, count: number): void {
    if (count < data.length) this.#data = data.subarray(count)
    else {
      this.#data = undefined
      this.#afterData()
    }
  }

  #expect(bytes: number, step: () => void): void {
    this.#need = bytes
    this.#step = step
    if (bytes > this.#field.length) this.#field = Buffer.concat([this.#field], bytes)
  }

  #expectReply(): void {
    this.#have = 0
    if (this.#field.length > longestErrorBytes) this.#field = Buffer.alloc(size.chunkHeader)
    this.#expect(size.simpleReply, () => this.#simpleHeader())
  }

  #expectData(into: Uint8Array, after: () => void): void {
    this.#data = into
    this.#afterData = after
  }

  #simpleHeader(): void {
    const found = this.#field.readUInt32BE(0)
    if (found === magic.structuredReply && this.#structured) {
      this.#expect(size.chunkHeader, () => this.#chunkHeader())
      return
    }
    if (found !== magic.simpleReply) throw new Error(`bad magic 0x${found.toString(16)} of a reply`)
    const handle = this.#handle()
    const request = this.#request(handle)
    const error = this.#field.readUInt32BE(4)
    if (this.#structured && (request.type === command.read || request.type === command.blockStatus)) {
      throw new Error('a simple reply where it agreed to a structured one')
    }
    if (error !== 0) request.error = { name: errorName(error), message: '' }
    if (error === 0 && request.into !== undefined && request.into.length > 0) {
      this.#expectData(request.into, () => {
        request.coverage.add(0, request.length)
        this.#finish(handle, request)
      })
    } else this.#finish(handle, request)
  }

  #chunkHeader(): void {
    const done = (this.#field.readUInt16BE(4) & replyFlag.done) !== 0
    const type = this.#field.readUInt16BE(6)
    const handle = this.#handle()
    const request = this.#request(handle)
    const length = this.#field.readUInt32BE(16)
    this.#have = 0
    const after = (): void => (done ? this.#finish(handle, request) : this.#expectReply())
    if (type === chunk.none) {
      if (length !== 0 || !done) throw new Error('a malformed empty chunk')
      after()
    } else if (type === chunk.offsetData && request.into !== undefined && length > 8) {
      this.#expect(8, () => this.#expectData(this.#part(request, length - 8), after))
    } else if (type === chunk.offsetHole && request.into !== undefined && length === 12) {
      this.#expect(12, () => {
        this.#part(request, this.#field.readUInt32BE(8)).fill(0)
        after()
      })
    } else if (type === chunk.blockStatus && request.type === command.blockStatus) {
      if (length > longestStatusBytes || length < 12 || length % 8 !== 4) throw new Error(`a status of ${length} bytes`)
      this.#expect(length, () => {
        this.#status(request, length)
        after()
      })
    } else if ((type & chunk.errorBit) !== 0) {
      if (length > longestErrorBytes || length < 6) throw new Error(`an error of ${length} bytes`)
      this.#expect(length, () => {
        this.#error(request, length)
        after()
      })
    } else throw new Error(`an unexpected chunk of type ${type} and ${length} bytes`)
  }

  /** The part of a read's buffer that a content chunk is about. */
  #part(request: Pending, length: number): Uint8Array {
    const start = this.#field.readUInt32BE(0) * 2 ** 32 + this.#field.readUInt32BE(4) - request.offset
    if (start < 0 || length === 0 || length > request.length - start) throw new Error('bytes that nobody asked for')
    request.coverage.add(start, start + length)
    return request.into?.subarray(start, start + length) ?? new Uint8Array(0)
  }

  #status(request: Pending, length: number): void {
    const id = this.#field.readUInt32BE(0)
    if (!this.#contextIds.has(id)) throw new Error(`status of a context ${id} that was not selected`)
    if (request.runs.has(id)) throw new Error('status of one context twice')
    const runs: StatusRun[] = []
    for (let at = 4; at < length; at += 8) {
      const run = { length: this.#field.readUInt32BE(at), flags: this.#field.readUInt32BE(at + 4) }
      if (run.length === 0) throw new Error('a status run of no length')
      runs.push(run)
    }
    request.runs.set(id, runs)
  }

  #error(request: Pending, length: number): void {
    const error = this.#field.readUInt32BE(0)
    const messageBytes = this.#field.readUInt16BE(4)
    if (error === 0 || messageBytes > length - 6) throw new Error('a malformed error')
    const message = this.#field.toString('utf8', 6, 6 + Math.min(messageBytes, size.string))
    request.error ??= { name: errorName(error), message }
  }

  #finish(handle: number, request: Pending): void {
    this.#expectReply()
    if (request.error === undefined) {
      if (request.type === command.read && !request.coverage.covers(request.length)) {
        throw new Error('it called a read done without all of its bytes')
      }
      if (request.type === command.blockStatus && request.runs.size !== this.#contextIds.size) {
        throw new Error('it called a status done without all of its contexts')
      }
    }
    this.pending.delete(handle)
    request.settle(undefined)
  }

  #handle(): number {
    return this.#field.readUInt32BE(8) * 2 ** 32 + this.#field.readUInt32BE(12)
  }

  #request(handle: number): Pending {
    const request = this.pending.get(handle)
    if (request === undefined) throw new Error('a reply to a request that was not sent')
    return request
  }
}

function errorName(error: number): string {
  return errorNames.get(error) ?? `error ${error}`
}
