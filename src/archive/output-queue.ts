import { createHash } from 'node:crypto'

/** Pieces on their way to the repository, limited in bytes; hashes what passes. One consumer. */
export class OutputQueue implements AsyncIterable<Uint8Array> {
  readonly #limitBytes: number
  readonly #sha256 = createHash('sha256')
  #pieces: Uint8Array[] = []
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

  /** Never waits, so that the pieces of one member stay together. */
  push(piece: Uint8Array): void {
    this.#refuseFailed()
    if (this.#state === 'ended') throw new Error('the archive is finished')
    this.#sha256.update(piece)
    this.#pieces.push(piece)
    this.#queuedBytes += piece.length
    this.#totalBytes += piece.length
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
          yield piece
          this.#queuedBytes -= piece.length
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
