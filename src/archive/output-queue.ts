import { createHash } from 'node:crypto'

interface Piece {
  readonly bytes: Uint8Array
  readonly consumed: (() => void) | undefined
}

/** Pieces on their way to the repository, limited in bytes; hashes what passes. One consumer. */
export class OutputQueue implements AsyncIterable<Uint8Array> {
  readonly #limitBytes: number
  readonly #sha256 = createHash('sha256')
  #pieces: Piece[] = []
  #queuedBytes = 0
  #totalBytes = 0
  #state: 'open' | 'ended' | 'failed' = 'open'
  #reason: unknown
  #wakeReader: (() => void) | undefined
  #wakeWriters: (() => void)[] = []

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes
  }

  get totalBytes(): number {
    return this.#totalBytes
  }

  /** Resolves when no more than the limit is queued; rejects with the reason once the queue has failed. */
  async room(): Promise<void> {
    while (this.#state === 'open' && this.#queuedBytes > this.#limitBytes) {
      await new Promise<void>((resolve) => this.#wakeWriters.push(resolve))
    }
    this.#refuseFailed()
  }

  /**
   * Never waits, so that the pieces of one member stay together. `consumed` is called when the memory of the piece is
   * no longer read; never, where the output fails.
   */
  push(bytes: Uint8Array, consumed?: () => void): void {
    this.#refuseFailed()
    if (this.#state === 'ended') throw new Error('the archive is finished')
    this.#sha256.update(bytes)
    this.#pieces.push({ bytes, consumed })
    this.#queuedBytes += bytes.length
    this.#totalBytes += bytes.length
    this.#wake()
  }

  /** Ends the output; returns the SHA-256, hex, of all of it. */
  end(): string {
    this.#refuseFailed()
    this.#state = 'ended'
    this.#wake()
    return this.#sha256.digest('hex')
  }

  /** The reader and all waiting and later writers get `reason`; does nothing after the end was read. */
  fail(reason: unknown): void {
    if (this.#state === 'failed') return
    this.#state = 'failed'
    this.#reason = reason
    this.#pieces = []
    this.#queuedBytes = 0
    this.#wake()
    this.#wakeAllWriters()
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, void> {
    let whole = false
    try {
      for (;;) {
        const pieces = this.#pieces
        this.#pieces = []
        for (const piece of pieces) {
          if (this.#state === 'failed') break
          yield piece.bytes
          this.#queuedBytes -= piece.bytes.length
          piece.consumed?.()
          this.#wakeAllWriters()
        }
        this.#refuseFailed()
        if (this.#pieces.length > 0) continue
        if (this.#state === 'ended') break
        await new Promise<void>((resolve) => (this.#wakeReader = resolve))
      }
      whole = true
    } finally {
      if (!whole) this.fail(new Error('whoever stores the archive stopped before its end'))
    }
  }

  #refuseFailed(): void {
    if (this.#state === 'failed') throw this.#reason
  }

  #wake(): void {
    this.#wakeReader?.()
    this.#wakeReader = undefined
  }

  #wakeAllWriters(): void {
    if (this.#state === 'open' && this.#queuedBytes > this.#limitBytes) return
    const waiting = this.#wakeWriters
    this.#wakeWriters = []
    for (const wake of waiting) wake()
  }
}
