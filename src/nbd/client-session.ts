import { RefpointError } from '../model/errors.js'
import type { Backend, StatusRun } from './backend.js'
import type { NbdClient } from './client.js'
import type { Agreement } from './client-handshake.js'
import { type Pending, ReplyStream } from './client-replies.js'
import type { Wire } from './client-wire.js'
import { Coverage } from './coverage.js'
import { command, commandFlag, magic, size, transmissionFlag } from './protocol.js'

const mostInFlight = 256
const goodbyeMs = 5_000
/** Of requests without a payload: the protocol counts in 32 bits, and servers like whole mebibytes. */
const longestRangeBytes = 4095 * 1024 * 1024

const commandNames = new Map<number, string>(Object.entries(command).map(([name, type]) => [type, name]))

interface Asked {
  readonly type: number
  readonly flags?: number
  readonly offset: number
  readonly length: number
  readonly into?: Uint8Array
  readonly pieces?: readonly Uint8Array[]
}

/** The transmission phase of one connection. */
export class ClientSession implements NbdClient {
  readonly sizeBytes: number
  readonly flags: number
  readonly readOnly: boolean
  readonly structured: boolean
  readonly blockSizes: Backend['blockSizes']
  readonly description: string | undefined
  readonly contexts: readonly string[]
  readonly #wire: Wire
  readonly #agreed: Agreement
  readonly #replies: ReplyStream
  readonly #queue: (() => void)[] = []
  #inFlight = 0
  #handle = 0
  #goodbye: Promise<void> | undefined
  #whenIdle: (() => void) | undefined

  constructor(wire: Wire, agreed: Agreement, replyTimeoutMs: number) {
    this.sizeBytes = agreed.sizeBytes
    this.flags = agreed.flags
    this.readOnly = this.#has('readOnly')
    this.structured = agreed.structured
    this.blockSizes = agreed.blockSizes
    this.description = agreed.description
    this.contexts = [...agreed.contexts.values()]
    this.#agreed = agreed
    this.#wire = wire
    this.#replies = new ReplyStream(agreed.structured, new Set(agreed.contexts.keys()))
    wire.hand(this.#replies)
    wire.watch(replyTimeoutMs, () => {
      if (this.#inFlight > 0) wire.fail(wire.error(`no answer within ${replyTimeoutMs} ms`))
    })
    if (wire.failure !== undefined) this.#replies.failed(wire.failure.reason)
  }

  async read(into: Uint8Array, offset: number): Promise<void> {
    await this.#inParts(offset, into.length, this.blockSizes.maximum, (at, length) => {
      const start = at - offset
      return { type: command.read, offset: at, length, into: into.subarray(start, start + length) }
    })
  }

  async write(
    bytes: Uint8Array | readonly Uint8Array[],
    offset: number,
    options: { readonly fua?: boolean } = {},
  ): Promise<void> {
    const pieces = bytes instanceof Uint8Array ? [bytes] : bytes
    const total = pieces.reduce((sum, piece) => sum + piece.length, 0)
    await this.#change(options, (flags) =>
      this.#inParts(offset, total, this.blockSizes.maximum, (at, length) => ({
        type: command.write,
        flags,
        offset: at,
        length,
        pieces: cut(pieces, at - offset, length),
      })),
    )
  }

  async zero(
    offset: number,
    length: number,
    options: { readonly punch?: boolean; readonly fua?: boolean } = {},
  ): Promise<void> {
    if (!this.#has('sendWriteZeroes')) throw this.#wire.error('it can not write zeroes as such')
    const hole = options.punch === true ? 0 : commandFlag.noHole
    await this.#change(options, (flags) =>
      this.#inParts(offset, length, this.blockSizes.maximum, (at, part) => ({
        type: command.writeZeroes,
        flags: flags | hole,
        offset: at,
        length: part,
      })),
    )
  }

  async trim(offset: number, length: number, options: { readonly fua?: boolean } = {}): Promise<void> {
    if (!this.#has('sendTrim')) throw this.#wire.error('it can not trim')
    await this.#change(options, (flags) =>
      this.#inParts(offset, length, longestRangeBytes, (at, part) => ({
        type: command.trim,
        flags,
        offset: at,
        length: part,
      })),
    )
  }

  async flush(): Promise<void> {
    if (!this.#has('sendFlush')) throw this.#wire.error('it can not flush: nothing written there is ever durable')
    await this.#ask({ type: command.flush, offset: 0, length: 0 })
  }

  async blockStatus(
    offset: number,
    length: number,
    options: { readonly one?: boolean } = {},
  ): Promise<ReadonlyMap<string, readonly StatusRun[]>> {
    if (this.contexts.length === 0) throw this.#wire.error('no meta context was agreed on')
    const flags = options.one === true ? commandFlag.reqOne : 0
    const asked = Math.min(length, longestRangeBytes)
    const { runs } = await this.#ask({ type: command.blockStatus, flags, offset, length: asked })
    return new Map(
      [...runs].map(([id, found]) => [this.#agreed.contexts.get(id) ?? '', clamp(found, asked)] as const),
    )
  }

  disconnect(): Promise<void> {
    return (this.#goodbye ??= this.#sayGoodbye())
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.disconnect()
  }

  async #sayGoodbye(): Promise<void> {
    if (this.#inFlight > 0) await new Promise<void>((resolve) => (this.#whenIdle = resolve))
    if (this.#wire.failure === undefined) {
      this.#wire.send(requestHeader({ type: command.disconnect, offset: 0, length: 0 }, 0))
      this.#wire.finish()
    }
    this.#replies.failed(this.#wire.failure?.reason)
    const timer = setTimeout(() => this.#wire.destroy(), goodbyeMs)
    await this.#wire.closed
    clearTimeout(timer)
  }

  /** Runs a changing request with FUA where the server has it, else with a flush after it. */
  async #change(options: { readonly fua?: boolean }, run: (flags: number) => Promise<void>): Promise<void> {
    if (this.readOnly) throw this.#wire.error('the export is read-only', { hint: 'Serve it writable.' })
    const fua = options.fua === true
    await run(fua && this.#has('sendFua') ? commandFlag.fua : 0)
    if (fua && !this.#has('sendFua')) await this.flush()
  }

  async #inParts(
    offset: number,
    length: number,
    most: number,
    part: (at: number, length: number) => Asked,
  ): Promise<void> {
    const parts: Promise<unknown>[] = []
    for (let at = offset; at < offset + length; at += most) {
      parts.push(this.#ask(part(at, Math.min(most, offset + length - at))))
    }
    // Every part has to settle before the caller's buffer is the caller's again.
    const failed = (await Promise.allSettled(parts)).find((result) => result.status === 'rejected')
    if (failed !== undefined) throw failed.reason
  }

  async #ask(asked: Asked): Promise<Pending> {
    const { offset, length } = asked
    if (!(offset >= 0 && length >= 0 && offset + length <= this.sizeBytes)) {
      throw this.#wire.error(`${length} bytes at ${offset} are not within its ${this.sizeBytes} bytes`)
    }
    if (this.#goodbye !== undefined) throw this.#wire.error('the client has disconnected')
    if (this.#inFlight >= mostInFlight) await new Promise<void>((resolve) => this.#queue.push(resolve))
    else this.#inFlight++
    try {
      return await this.#send(asked)
    } finally {
      const next = this.#queue.shift()
      if (next !== undefined) next()
      else if (--this.#inFlight === 0) this.#whenIdle?.()
    }
  }

  #send(asked: Asked): Promise<Pending> {
    const failure = this.#replies.failure
    if (failure !== undefined) return Promise.reject(failure.reason)
    const { type, offset, length, into } = asked
    return new Promise((resolve, reject) => {
      const pending: Pending = {
        type,
        offset,
        length,
        into,
        coverage: new Coverage(),
        runs: new Map(),
        error: undefined,
        settle: (lost) => {
          if (lost !== undefined) reject(lost.reason)
          else if (pending.error !== undefined) reject(this.#refusal(pending, pending.error))
          else resolve(pending)
        },
      }
      do this.#handle = (this.#handle + 1) >>> 0
      while (this.#replies.pending.has(this.#handle))
      this.#replies.pending.set(this.#handle, pending)
      this.#wire.send(requestHeader(asked, this.#handle), ...(asked.pieces ?? []))
    })
  }

  #refusal({ type, offset, length }: Pending, { name, message }: { name: string; message: string }): RefpointError {
    const what = `${commandNames.get(type) ?? type} of ${length} bytes at ${offset}`
    const text = `NBD server ${this.#wire.description}: ${what} failed: ${name}${message === '' ? '' : ` (${message})`}`
    return new RefpointError('tracker', text, { fields: { error: name, offset, length } })
  }

  #has(flag: keyof typeof transmissionFlag): boolean {
    return (this.flags & transmissionFlag[flag]) !== 0
  }
}

function requestHeader({ type, flags = 0, offset, length }: Asked, handle: number): Buffer {
  const header = Buffer.allocUnsafe(size.requestHeader)
  header.writeUInt32BE(magic.request, 0)
  header.writeUInt16BE(flags, 4)
  header.writeUInt16BE(type, 6)
  header.writeUInt32BE(0, 8)
  header.writeUInt32BE(handle, 12)
  header.writeUInt32BE(Math.floor(offset / 2 ** 32), 16)
  header.writeUInt32BE(offset % 2 ** 32, 20)
  header.writeUInt32BE(length, 24)
  return header
}

/** Views of `length` bytes from byte `start` on of consecutive pieces. */
function cut(pieces: readonly Uint8Array[], start: number, length: number): Uint8Array[] {
  const views: Uint8Array[] = []
  let at = 0
  for (const piece of pieces) {
    const from = Math.max(0, start - at)
    const to = Math.min(piece.length, start + length - at)
    if (from < to) views.push(piece.subarray(from, to))
    at += piece.length
  }
  return views
}

/** A server may tell more than it was asked. */
function clamp(runs: readonly StatusRun[], length: number): StatusRun[] {
  const clamped: StatusRun[] = []
  let left = length
  for (const run of runs) {
    if (left === 0) break
    clamped.push({ flags: run.flags, length: Math.min(run.length, left) })
    left -= Math.min(run.length, left)
  }
  return clamped
}
