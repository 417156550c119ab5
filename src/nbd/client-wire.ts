import { connect, type Socket } from 'node:net'
import { RefpointError } from '../model/errors.js'

export type NbdAddress = { readonly path: string } | { readonly host?: string; readonly port: number }

/** What takes the server's bytes: they are put right where it wants them. */
export interface Receiver {
  /** Where the next bytes should go; undefined where that does not matter. */
  target(): Uint8Array | undefined
  /**
   * They are in the place that `target` named last, or, if it named none, in `bytes`, which is valid only until this
   * returns. Throws for what no honest server sends.
   */
  received(bytes: Uint8Array): void
  /** Nothing will come any more. */
  failed(reason: unknown): void
}

/** A socket to an NBD server whose failure, of whatever kind, comes out once and as one error. */
export class Wire {
  readonly description: string
  readonly #socket: Socket
  readonly #signal: AbortSignal | undefined
  #receiver: Receiver
  #failure: { readonly reason: unknown } | undefined
  readonly #scratch = Buffer.allocUnsafeSlow(16 * 1024)
  #corked = false
  readonly closed: Promise<void>

  /** Dials at once; nothing but `failed` of `receiver` tells when that fails. */
  constructor(address: NbdAddress, receiver: Receiver, signal: AbortSignal | undefined) {
    this.description = 'path' in address ? address.path : `${address.host ?? '127.0.0.1'}:${address.port}`
    this.#receiver = receiver
    this.#signal = signal
    const onread = {
      buffer: () => this.#receiver.target() ?? this.#scratch,
      callback: (count: number, buffer: Uint8Array) => this.#received(buffer.subarray(0, count)),
    }
    this.#socket = connect(
      'path' in address
        ? { path: address.path, onread }
        : { host: address.host ?? '127.0.0.1', port: address.port, noDelay: true, onread },
    )
    this.closed = new Promise((resolve) => this.#socket.once('close', () => resolve()))
    this.#socket.on('error', (cause) => this.fail(this.error(`connection failed: ${cause.message}`, { cause })))
    this.#socket.on('end', () => this.fail(this.error('the server closed the connection')))
    this.#socket.on('close', () => this.fail(this.error('the connection was closed')))
    if (signal?.aborted === true) this.#abort()
    else signal?.addEventListener('abort', this.#abort)
  }

  error(message: string, details: { cause?: unknown; hint?: string } = {}): RefpointError {
    return new RefpointError('tracker', `NBD server ${this.description}: ${message}`, details)
  }

  /** From now on `receiver` takes the bytes; the one before must have taken all that came. */
  hand(receiver: Receiver): void {
    this.#receiver = receiver
  }

  /** Queues pieces in order; what is queued in one turn of the event loop leaves in one system call. */
  send(...pieces: readonly Uint8Array[]): void {
    if (!this.#corked) {
      this.#corked = true
      this.#socket.cork()
      process.nextTick(() => {
        this.#corked = false
        this.#socket.uncork()
      })
    }
    for (const piece of pieces) this.#socket.write(piece)
  }

  /** Calls `idle` when no byte has moved for `ms`. */
  watch(ms: number, idle: () => void): void {
    this.#socket.setTimeout(ms, idle)
  }

  /** The first reason is kept. The socket is gone when it returns, and no buffer is written to any more. */
  fail(reason: unknown): void {
    if (this.#failure !== undefined) return
    this.#failure = { reason }
    this.#signal?.removeEventListener('abort', this.#abort)
    this.#socket.destroy()
    this.#receiver.failed(reason)
  }

  /** Sends what is queued and hangs up. */
  finish(): void {
    this.#failure ??= { reason: this.error('the client has disconnected') }
    this.#signal?.removeEventListener('abort', this.#abort)
    this.#socket.destroySoon()
  }

  /** Hangs up at once, whatever is still queued. */
  destroy(): void {
    this.#socket.destroy()
  }

  get failure(): { readonly reason: unknown } | undefined {
    return this.#failure
  }

  readonly #abort = (): void => this.fail(this.#signal?.reason)

  #received(bytes: Uint8Array): boolean {
    if (this.#failure !== undefined) return false
    try {
      this.#receiver.received(bytes)
    } catch (cause) {
      const message = cause instanceof Error ? cause.message : String(cause)
      this.fail(this.error(`broke the protocol: ${message}`, { cause }))
    }
    return this.#failure === undefined
  }
}
