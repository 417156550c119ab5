import type { DigestWindow } from '../../model/digest-window.js'
import { DIGEST_BLOCK_BYTES, WINDOW_BLOCKS } from '../../model/geometry.js'
import type { Range } from '../../model/extent.js'
import type { StoreChain } from '../chain-reader.js'

/** What the parent point says of a store's digest blocks; keeps one window in memory, so ask in ascending order. */
export class ParentDigests {
  readonly #open: () => Promise<StoreChain>
  readonly #forced: readonly Range[]
  #chain: Promise<StoreChain> | undefined
  #window: { readonly index: number; readonly digests: DigestWindow } | undefined

  /** @param open opens the parent's chain, the first time that it is needed: a run without changes never does. */
  constructor(open: () => Promise<StoreChain>, forced: readonly Range[]) {
    this.#open = open
    this.#forced = forced
  }

  async chain(): Promise<StoreChain> {
    this.#chain ??= this.#open()
    return await this.#chain
  }

  /** The window that holds this block (absolute). */
  async windowOf(block: number): Promise<DigestWindow> {
    const index = Math.floor(block / WINDOW_BLOCKS)
    if (this.#window?.index !== index) {
      this.#window = { index, digests: await (await this.chain()).digestWindow(index) }
    }
    return this.#window.digests
  }

  /** Whether a block must be in the point even if its content is what it was: the store's end moved over it. */
  isForced(block: number): boolean {
    const offset = block * DIGEST_BLOCK_BYTES
    return this.#forced.some(
      (range) => offset + DIGEST_BLOCK_BYTES > range.offset && offset < range.offset + range.length,
    )
  }
}
