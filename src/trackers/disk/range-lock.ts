interface Held {
  readonly first: number
  readonly last: number
  readonly released: Promise<void>
}

/** Locks runs of blocks against each other. In flight are few at a time, so a list is enough. */
export class RangeLock {
  readonly #held = new Set<Held>()

  /** Waits until nobody holds any block of `first`…`last`, and holds them until the returned function is called. */
  async acquire(first: number, last: number): Promise<() => void> {
    for (;;) {
      const inTheWay = this.#overlapping(first, last)
      if (inTheWay === undefined) break
      await inTheWay.released
    }
    let resolve = (): void => undefined
    const released = new Promise<void>((done) => (resolve = done))
    const held: Held = { first, last, released }
    this.#held.add(held)
    return () => {
      this.#held.delete(held)
      resolve()
    }
  }

  #overlapping(first: number, last: number): Held | undefined {
    for (const held of this.#held) if (held.first <= last && first <= held.last) return held
    return undefined
  }
}
