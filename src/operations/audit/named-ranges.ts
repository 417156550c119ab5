import type { Range } from '../../model/extent.js'
import { mergeRanges } from '../../model/ranges.js'

/**
 * A tracker's answer, a stretch at a time: it may be long, so it is listed again for whoever goes back, never kept. Ask
 * in ascending order where that is possible.
 */
export class NamedRanges {
  readonly #ask: () => Promise<AsyncIterable<readonly Range[]>>
  readonly #sizeBytes: number
  #listing: AsyncGenerator<Range, void, undefined> | undefined
  #asked = 0
  #ahead: Range | undefined

  constructor(ask: () => Promise<AsyncIterable<readonly Range[]>>, sizeBytes: number) {
    this.#ask = ask
    this.#sizeBytes = sizeBytes
  }

  /** What was named of the bytes from `from` to `end`: ascending, joined, not clipped. */
  async within(from: number, end: number): Promise<readonly Range[]> {
    if (this.#listing === undefined || from < this.#asked) await this.#restart()
    this.#asked = from
    const found: Range[] = []
    while (this.#ahead !== undefined && this.#ahead.offset < end) {
      if (this.#ahead.offset + this.#ahead.length > from) found.push(this.#ahead)
      // One that reaches on is needed for the next stretch, too.
      if (this.#ahead.offset + this.#ahead.length > end) break
      await this.#step()
    }
    return found
  }

  async close(): Promise<void> {
    await this.#listing?.return(undefined)
    this.#listing = undefined
  }

  async #restart(): Promise<void> {
    await this.close()
    this.#listing = mergeRanges(await this.#ask(), [], this.#sizeBytes)
    await this.#step()
  }

  async #step(): Promise<void> {
    const next = await this.#listing?.next()
    this.#ahead = next === undefined || next.done === true ? undefined : next.value
  }
}
