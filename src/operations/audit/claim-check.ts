import { DIGEST_BYTES, hasDigests, STATE_DIGEST, STATE_ZERO, WINDOW_BLOCKS } from '../../model/geometry.js'
import { MissedBlocks } from '../../model/missed-blocks.js'
import type { ParentDigests } from '../backup/parent-digests.js'
import type { TouchedBlocks } from './touched-blocks.js'

/**
 * Holds a tracker's answer against what comparing a whole store found: a block that differs from the parent, and that
 * the tracker did not name, was missed. So a compared backup of a tracked store is a whole audit too.
 */
export class ClaimCheck {
  readonly missed = new MissedBlocks()
  readonly #touched: TouchedBlocks
  readonly #parent: ParentDigests

  /** @param parent of its own: blocks are asked for in another order than by whoever reads them. */
  constructor(touched: TouchedBlocks, parent: ParentDigests) {
    this.#touched = touched
    this.#parent = parent
  }

  /**
   * @param runs rows of three: first digest block, how many, state. They differ from the parent, or were kept.
   * @param digests of the blocks of runs that have some, in order.
   */
  async judge({ runs, digests }: { readonly runs: Float64Array; readonly digests: Uint8Array }): Promise<void> {
    let at = 0
    for (let i = 0; i < runs.length; i += 3) {
      const first = runs[i] ?? 0
      const end = first + (runs[i + 1] ?? 0)
      const known = hasDigests(runs[i + 2] ?? 0)
      for (let block = first; block < end; block++) {
        const digest = known ? digests.subarray(at, (at += DIGEST_BYTES)) : undefined
        // Kept because the store's end moved over it, or because nobody knows what it was: that proves nothing.
        if (this.#touched.has(block) || this.#parent.isForced(block)) continue
        const window = await this.#parent.windowOf(block)
        const index = block % WINDOW_BLOCKS
        const before = window.state[index]
        // Kept because the parent stored only a part of it: the disk is what it was.
        if (window.partly[index] === 1 && digest !== undefined && equal(digest, window.digest(index))) continue
        if (before === STATE_DIGEST || before === STATE_ZERO) this.missed.add(block)
      }
    }
  }
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.every((byte, i) => byte === b[i])
}
