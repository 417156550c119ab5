/**
 * A limit on the bytes that are in flight, shared by everything that runs at once. First come, first served, so that a
 * large request is not starved by small ones; a request above the limit is let in alone.
 */
export class ByteBudget {
  readonly limitBytes: number
  #used = 0
  readonly #waiting: { readonly bytes: number; readonly start: () => void }[] = []

  constructor(limitBytes: number) {
    this.limitBytes = limitBytes
  }

  /** Takes `bytes` if they fit now and nobody waits. */
  tryAcquire(bytes: number): boolean {
    if (this.#waiting.length > 0 || !this.#fits(bytes)) return false
    this.#used += bytes
    return true
  }

  /** Waits until `bytes` fit; the caller gives them back with `release`. */
  async acquire(bytes: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    if (this.tryAcquire(bytes)) return
    await new Promise<void>((resolve, reject) => {
      const entry = {
        bytes,
        start: () => {
          signal.removeEventListener('abort', abandon)
          this.#used += bytes
          resolve()
        },
      }
      const abandon = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(entry), 1)
        reject(signal.reason as Error)
        this.#next()
      }
      signal.addEventListener('abort', abandon, { once: true })
      this.#waiting.push(entry)
    })
  }

  release(bytes: number): void {
    this.#used -= bytes
    this.#next()
  }

  #fits(bytes: number): boolean {
    return this.#used === 0 || this.#used + bytes <= this.limitBytes
  }

  #next(): void {
    for (let first = this.#waiting[0]; first !== undefined && this.#fits(first.bytes); first = this.#waiting[0]) {
      this.#waiting.shift()
      first.start()
    }
  }
}
