import type { Range } from '../../model/extent.js'
import { blockCount, DIGEST_BLOCK_BYTES } from '../../model/geometry.js'
import { mergeRanges } from '../../model/ranges.js'

/**
 * The digest blocks that a tracker named as changed, and those of them that it named whole: one bit each, since they are
 * asked for in any order.
 */
export class TouchedBlocks {
  readonly #touched: Uint8Array
  readonly #whole: Uint8Array

  private constructor(blocks: number) {
    this.#touched = new Uint8Array(Math.ceil(blocks / 8))
    this.#whole = new Uint8Array(Math.ceil(blocks / 8))
  }

  /** @param sizeBytes of the store now; what lies past it is passed over. */
  static async of(changed: AsyncIterable<readonly Range[]>, sizeBytes: number): Promise<TouchedBlocks> {
    const touched = new TouchedBlocks(blockCount(sizeBytes))
    for await (const { offset, length } of mergeRanges(changed, [], sizeBytes)) {
      const end = offset + length
      const last = Math.ceil(end / DIGEST_BLOCK_BYTES)
      for (let block = Math.floor(offset / DIGEST_BLOCK_BYTES); block < last; block++) {
        set(touched.#touched, block)
        const blockEnd = Math.min((block + 1) * DIGEST_BLOCK_BYTES, sizeBytes)
        if (offset <= block * DIGEST_BLOCK_BYTES && end >= blockEnd) set(touched.#whole, block)
      }
    }
    return touched
  }

  /** Whether anything of the block was named. */
  has(block: number): boolean {
    return isSet(this.#touched, block)
  }

  /** Whether all of the block was named. */
  hasWhole(block: number): boolean {
    return isSet(this.#whole, block)
  }
}

function set(bits: Uint8Array, block: number): void {
  bits[block >> 3] = (bits[block >> 3] ?? 0) | (1 << (block & 7))
}

function isSet(bits: Uint8Array, block: number): boolean {
  return (((bits[block >> 3] ?? 0) >> (block & 7)) & 1) === 1
}
