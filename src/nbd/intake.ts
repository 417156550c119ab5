const tinyBytes = 1024

/**
 * Bytes of a handshake, pushed in by a socket and taken in the portions that the protocol speaks in. Whoever pushes
 * bounds what is held, by `heldBytes`.
 */
export class Intake {
  #chunks: Uint8Array[] = []
  #bytes = 0
  #failure: { readonly reason: unknown } | undefined
  readonly #starved: () => void
  #waiting: { bytes: number; resolve: (portion: Buffer) => void; reject: (reason: unknown) => void } | undefined

  /** `starved` is called when somebody waits for more than was pushed. */
  constructor(starved: () => void = () => {}) {
    this.#starved = starved
  }

  get heldBytes(): number {
    return this.#bytes
  }

  push(chunk: Uint8Array): void {
    // Bytes that drip in one by one are joined: each chunk costs far more than a byte.
    const last = this.#chunks.at(-1)
    const drip = last !== undefined && last.length + chunk.length <= tinyBytes
    if (drip) this.#chunks[this.#chunks.length - 1] = Buffer.concat([last, chunk])
    else this.#chunks.push(chunk)
    this.#bytes += chunk.length
    const waiting = this.#waiting
    if (waiting === undefined || this.#bytes < waiting.bytes) return
    this.#waiting = undefined
    waiting.resolve(this.#cut(waiting.bytes))
  }

  /** Ends it: whoever waits, and whoever asks from now on, is told `reason`. */
  fail(reason: unknown): void {
    this.#failure ??= { reason }
    const waiting = this.#waiting
    this.#waiting = undefined
    waiting?.reject(this.#failure.reason)
  }

  /** The next `bytes` bytes. One call at a time. */
  take(bytes: number): Promise<Buffer> {
    if (this.#bytes >= bytes) return Promise.resolve(this.#cut(bytes))
    if (this.#failure !== undefined) return Promise.reject(this.#failure.reason)
    return new Promise((resolve, reject) => {
      this.#waiting = { bytes, resolve, reject }
      this.#starved()
    })
  }

  /** Throws away the next `bytes` bytes, holding no more than a little of them. */
  async skip(bytes: number): Promise<void> {
    for (let left = bytes; left > 0;) {
      const portion = await this.take(Math.min(left, 4096))
      left -= portion.length
    }
  }

  /** Everything not taken yet. */
  rest(): Buffer {
    return this.#cut(this.#bytes)
  }

  #cut(bytes: number): Buffer {
    const [first] = this.#chunks
    if (first !== undefined && this.#chunks.length === 1 && first.length >= bytes) {
      this.#chunks = first.length > bytes ? [first.subarray(bytes)] : []
      this.#bytes -= bytes
      return Buffer.from(first.buffer, first.byteOffset, bytes)
    }
    const all = Buffer.concat(this.#chunks)
    this.#chunks = all.length > bytes ? [all.subarray(bytes)] : []
    this.#bytes -= bytes
    return all.subarray(0, bytes)
  }
}
