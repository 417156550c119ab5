import type { Range } from './extent.js'
import { DIGEST_BLOCK_BYTES } from './geometry.js'

/** More blocks than these are only counted: they are told to a person. */
const KEPT_BLOCKS = 100_000
const KEPT_RANGES = 1000
const TOLD_RANGES = 5

/** Blocks that a tracker called unchanged and that are not. Added in any order, each once. */
export class MissedBlocks {
  #count = 0
  readonly #blocks: number[] = []

  get count(): number {
    return this.#count
  }

  add(block: number): void {
    this.#count++
    if (this.#blocks.length < KEPT_BLOCKS) this.#blocks.push(block)
  }

  /** Bytes of the store, ascending and joined; of very many, the first 1,000 ranges of those that were kept. */
  ranges(sizeBytes: number): readonly Range[] {
    const ranges: { offset: number; length: number }[] = []
    for (const block of this.#blocks.toSorted((a, b) => a - b)) {
      const offset = block * DIGEST_BLOCK_BYTES
      const length = Math.min(DIGEST_BLOCK_BYTES, sizeBytes - offset)
      const last = ranges.at(-1)
      if (last !== undefined && last.offset + last.length === offset) last.length += length
      else if (ranges.length === KEPT_RANGES) break
      else ranges.push({ offset, length })
    }
    return ranges
  }

  /** `called 3 blocks of 64 KiB unchanged that are not: bytes 0 to 131072, 196608 to 262144` */
  describe(sizeBytes: number): string {
    const ranges = this.ranges(sizeBytes)
    const told = ranges.slice(0, TOLD_RANGES).map(({ offset, length }) => `${offset} to ${offset + length}`)
    const more = ranges.length > TOLD_RANGES ? ', …' : ''
    const blocks = this.#count === 1 ? '1 block of 64 KiB' : `${this.#count} blocks of 64 KiB`
    const are = this.#count === 1 ? 'is' : 'are'
    return `called ${blocks} unchanged that ${are} not: bytes ${told.join(', ')}${more}`
  }
}
