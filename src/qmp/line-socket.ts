import { connect, type Socket } from 'node:net'
import { StringDecoder } from 'node:string_decoder'

/** More than any honest answer: QEMU's whole schema is some 300 KiB. */
const longestLineBytes = 64 * 1024 * 1024

export interface LineSocketEvents {
  /** A line without its end. */
  line(text: string): void
  /** Called once, when nothing will come any more. */
  lost(cause: Error | undefined): void
}

/** A unix socket on which both sides send lines of text; what is no complete line is never seen. */
export class LineSocket {
  readonly #socket: Socket
  readonly #events: LineSocketEvents
  readonly #decoder = new StringDecoder('utf8')
  #pieces: string[] = []
  #heldBytes = 0
  #lost = false

  /** Dials at once; `lost` tells when that fails. */
  constructor(path: string, events: LineSocketEvents) {
    this.#events = events
    this.#socket = connect({ path })
    this.#socket.on('data', (bytes) => this.#received(bytes))
    this.#socket.on('error', (error) => this.#lose(error))
    this.#socket.on('close', () => this.#lose(undefined))
  }

  send(text: string): void {
    this.#socket.write(text)
  }

  sendBytes(bytes: Uint8Array): void {
    this.#socket.write(bytes)
  }

  /** Hangs up. `lost` is called, too, unless it was before. */
  close(cause?: Error): void {
    this.#lose(cause)
  }

  #received(bytes: Buffer): void {
    const lines = this.#decoder.write(bytes).split('\n')
    const rest = lines.pop() ?? ''
    for (const line of lines) {
      if (this.#lost) return
      const text = [...this.#pieces, line].join('')
      this.#pieces = []
      this.#heldBytes = 0
      this.#events.line(text.trimEnd())
    }
    if (rest === '' || this.#lost) return
    this.#pieces.push(rest)
    this.#heldBytes += rest.length
    if (this.#heldBytes > longestLineBytes) this.#lose(new Error('it sends a line that does not end'))
  }

  #lose(cause: Error | undefined): void {
    if (this.#lost) return
    this.#lost = true
    this.#socket.destroy()
    this.#events.lost(cause)
  }
}
