/**
 * How fast bytes go by, and how long the rest will take: the mean over the last seconds, for a mean over everything
 * says nothing after a pause, and a momentary value jumps.
 */
export class Rate {
  readonly #windowMs: number
  /** Newest last; the first may be older than the window, so that there are always two to compare. */
  #samples: { readonly atMs: number; readonly bytes: number }[]

  constructor(startMs: number, windowMs = 10_000) {
    this.#windowMs = windowMs
    this.#samples = [{ atMs: startMs, bytes: 0 }]
  }

  /** Tells the count of bytes so far at a time of a clock that does not go back. */
  sample(bytes: number, atMs: number): void {
    const newest = this.#samples.at(-1)
    // A few samples for each second are enough, however often it is told.
    if (this.#samples.length > 1 && newest !== undefined && atMs - newest.atMs < 250) this.#samples.pop()
    this.#samples.push({ atMs, bytes })
    const old = this.#samples.findLastIndex((sample) => sample.atMs <= atMs - this.#windowMs)
    if (old > 0) this.#samples = this.#samples.slice(old)
  }

  /** Undefined as long as nothing can be said. */
  bytesPerSecond(): number | undefined {
    const [first, last] = [this.#samples[0], this.#samples.at(-1)]
    if (first === undefined || last === undefined || last.atMs - first.atMs < 500) return undefined
    return ((last.bytes - first.bytes) / (last.atMs - first.atMs)) * 1000
  }

  /** Milliseconds until `remainingBytes` more have gone by; undefined when that can't be told. */
  remainingMs(remainingBytes: number): number | undefined {
    const rate = this.bytesPerSecond()
    return rate === undefined || rate <= 0 ? undefined : (remainingBytes / rate) * 1000
  }
}
