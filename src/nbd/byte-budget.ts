/** Called with the bytes already taken. */
export type Grant = () => void

interface Waiter {
  readonly bytes: number
  readonly grant: Grant
}

/**
 * A ceiling in bytes that many takers share, first come, first served: whoever finds too little left waits in line,
 * and nobody overtakes, so that a large request is not starved by small ones.
 */
export class ByteBudget {
  readonly ceilingBytes: number
  #taken = 0
  #peak = 0
  readonly #waiters: Waiter[] = []

  constructor(ceilingBytes: number) {
    this.ceilingBytes = ceilingBytes
  }

  get takenBytes(): number {
    return this.#taken
  }

  /** The most that was ever taken at once. */
  get peakBytes(): number {
    return this.#peak
  }

  get contended(): boolean {
    return this.#waiters.length > 0
  }

  /** True: taken at once. False: `grant` is called later, when they have been taken. At most `ceilingBytes`. */
  take(bytes: number, grant: Grant): boolean {
    if (bytes > this.ceilingBytes) throw new RangeError(`${bytes} bytes can never fit under ${this.ceilingBytes}`)
    if (this.#waiters.length === 0 && this.#taken + bytes <= this.ceilingBytes) {
      this.#account(bytes)
      return true
    }
    this.#waiters.push({ bytes, grant })
    return false
  }

  give(bytes: number): void {
    this.#taken -= bytes
    this.#serve()
  }

  /** Leaves the line; true if `grant` was still in it and will never be called. */
  cancel(grant: Grant): boolean {
    const at = this.#waiters.findIndex((waiter) => waiter.grant === grant)
    if (at < 0) return false
    this.#waiters.splice(at, 1)
    this.#serve()
    return true
  }

  #account(bytes: number): void {
    this.#taken += bytes
    if (this.#taken > this.#peak) this.#peak = this.#taken
  }

  #serve(): void {
    for (let next = this.#waiters[0]; next !== undefined; next = this.#waiters[0]) {
      if (this.#taken + next.bytes > this.ceilingBytes) return
      this.#waiters.shift()
      this.#account(next.bytes)
      next.grant()
    }
  }
}
