/** Pieces in which a read may arrive before the server is taken for hostile. */
const mostRanges = 4096

/** Which bytes of a read have come: every one must, and none twice. */
export class Coverage {
  /** Ascending and apart: `[start, end)`. */
  readonly #ranges: { start: number; end: number }[] = []

  /** Throws when part of it was there already. */
  add(start: number, end: number): void {
    let at = this.#ranges.length
    while (at > 0 && (this.#ranges[at - 1]?.start ?? 0) >= end) at--
    const before = this.#ranges[at - 1]
    if (before !== undefined && before.end > start) throw new Error('bytes of a read came twice')
    const after = this.#ranges[at]
    if (before?.end === start) {
      before.end = end
      if (after?.start !== end) return
      before.end = after.end
      this.#ranges.splice(at, 1)
    } else if (after?.start === end) after.start = start
    else this.#ranges.splice(at, 0, { start, end })
    if (this.#ranges.length > mostRanges) throw new Error(`a read came in more than ${mostRanges} pieces`)
  }

  covers(length: number): boolean {
    const [only, ...others] = this.#ranges
    if (length === 0) return only === undefined
    return others.length === 0 && only?.start === 0 && only.end === length
  }
}
