import type { Range } from '../../model/extent.js'
import { DIGEST_BLOCK_BYTES } from '../../model/geometry.js'

/** The digest blocks that a tracker named as changed: one bit each, since they are asked for in any order. */
export class TouchedBlocks {
  readonly #bits: Uint8Array

  private constructor(blocks: number) {
    this.#bits = new Uint8Array(Math.ceil(blocks / 8))
  }

  /** @param blocks of the store now; what lies past them is passed over. */
  static async of(changed: AsyncIterable<readonly Range[]>, blocks: number): Promise<TouchedBlocks> {
    const touched = new TouchedBlocks(blocks)
    for await (const page of changed) {
      for (const range of page) {
        const end = Math.min(blocks, Math.ceil((range.offset + range.length) / DIGEST_BLOCK_BYTES))
        for (let block = Math.floor(range.offset / DIGEST_BLOCK_BYTES); block < end; block++) touched.#add(block)
      }
    }
    return touched
  }

  has(block: number): boolean {
    return (((this.#bits[block >> 3] ?? 0) >> (block & 7)) & 1) === 1
  }

  #add(block: number): void {
    this.#bits[block >> 3] = (this.#bits[block >> 3] ?? 0) | (1 << (block & 7))
  }
}
