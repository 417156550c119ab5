import type { Socket } from 'node:net'
import type { ExportLookup } from './exports.js'
import { Intake } from './intake.js'
import { negotiate } from './server-handshake.js'
import { Transmission, type TransmissionShare } from './server-transmission.js'

/** Bytes of one client that wait on either side of the handshake before it is made to wait. */
const handshakeHeldBytes = 64 * 1024

export interface ConnectionLimits {
  readonly handshakeTimeoutMs: number
}

/** One client of the server, from its first byte to its last. */
export class Connection {
  readonly #socket: Socket
  readonly #intake: Intake
  readonly #closed: Promise<void>
  #transmission: Transmission | undefined
  #corked = false
  #seenProgress = -1

  constructor(socket: Socket, exports: ExportLookup, share: TransmissionShare, limits: ConnectionLimits) {
    this.#socket = socket
    this.#intake = new Intake(() => socket.resume())
    this.#closed = new Promise((resolve) => socket.once('close', () => resolve()))
    socket.on('data', (chunk) => this.#receive(chunk))
    socket.on('end', () => this.#ended())
    // A client that resets its connection is no news; 'close' follows and cleans up.
    socket.on('error', () => socket.destroy())
    socket.on('close', () => {
      this.#intake.fail(new Error('closed'))
      this.#transmission?.gone()
    })
    this.#serve(exports, share, limits).catch(() => socket.destroy())
  }

  /** Resolves when the socket is closed and the backend does nothing for this client any more. */
  async closed(): Promise<void> {
    await this.#closed
    await this.#transmission?.idle()
  }

  /** Answers what was taken, takes no more, and ends; cut off after `graceMs`. */
  async shutDown(graceMs: number): Promise<void> {
    const timer = setTimeout(() => this.#socket.destroy(), graceMs)
    if (this.#transmission === undefined) this.#socket.destroy()
    else this.#transmission.end()
    await this.closed()
    clearTimeout(timer)
  }

  /**
   * Called from time to time while other connections wait for memory: cuts off a client that holds some and has
   * neither sent nor taken a byte since the last call.
   */
  dropIfStalled(): void {
    const transmission = this.#transmission
    if (transmission === undefined || transmission.running || transmission.heldBytes === 0) return
    if (transmission.progress === this.#seenProgress) this.#socket.destroy()
    this.#seenProgress = transmission.progress
  }

  async #serve(exports: ExportLookup, share: TransmissionShare, limits: ConnectionLimits): Promise<void> {
    const timer = setTimeout(() => this.#socket.destroy(), limits.handshakeTimeoutMs)
    const peer = { intake: this.#intake, send: (bytes: Uint8Array) => this.#sendOption(bytes) }
    const session = await negotiate(peer, exports).finally(() => clearTimeout(timer))
    if (this.#socket.destroyed) return
    if (session === undefined) {
      this.#socket.destroySoon()
      return
    }
    this.#transmission = new Transmission(session, this.#peer(), share)
    this.#socket.resume()
    const early = this.#intake.rest()
    if (early.length > 0) this.#transmission.feed(early)
    if (this.#socket.readableEnded) this.#transmission.end()
  }

  #receive(chunk: Buffer): void {
    if (this.#transmission !== undefined) {
      this.#transmission.feed(chunk)
      return
    }
    this.#intake.push(chunk)
    if (this.#intake.heldBytes >= handshakeHeldBytes) this.#socket.pause()
  }

  #ended(): void {
    if (this.#transmission === undefined) this.#intake.fail(new Error('ended'))
    else this.#transmission.end()
  }

  #sendOption(bytes: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#socket.write(bytes, (error) => (error ? reject(error) : resolve()))
    })
  }

  #peer(): ConstructorParameters<typeof Transmission>[1] {
    const socket = this.#socket
    return {
      pause: () => void socket.pause(),
      resume: () => void socket.resume(),
      send: (bytes, sent) => {
        this.#cork()
        socket.write(bytes, sent)
      },
      finish: () => socket.destroySoon(),
      hangUp: () => void socket.destroy(),
    }
  }

  /** Replies that become ready in one turn of the event loop leave in one system call. */
  #cork(): void {
    if (this.#corked) return
    this.#corked = true
    this.#socket.cork()
    setImmediate(() => {
      this.#corked = false
      this.#socket.uncork()
    })
  }
}
