import { DIGEST_BYTES, hasDigests, STATE_DIGEST, STATE_NONE, STATE_PARTLY, WINDOW_BLOCKS } from './geometry.js'
import type { DigestColumns } from './tables.js'

/**
 * What a chain says about the content of each digest block of one window: the newest entry wins, and a block that no
 * archive touched has none. Filled from the newest archive to the oldest.
 */
export class DigestWindow {
  /** Blocks of this window that lie within the store. */
  readonly blocks: number
  /** One STATE_* a block; STATE_DIGEST also where the entry says STATE_PARTLY. */
  readonly state = new Uint8Array(WINDOW_BLOCKS)
  /**
   * 1 for a block whose digest was taken with only a part of it stored. What the chain holds of it is right only if the
   * tracker named all that had changed in it: that the disk still has the digest does not prove that.
   */
  readonly partly = new Uint8Array(WINDOW_BLOCKS)
  readonly digests = new Uint8Array(WINDOW_BLOCKS * DIGEST_BYTES)
  #missing: number

  constructor(blocks: number) {
    this.blocks = blocks
    this.#missing = blocks
  }

  /** Whether every block has its entry, so that older archives need not be asked. */
  get complete(): boolean {
    return this.#missing === 0
  }

  /** Adds the entries of the next older archive; blocks that have one already keep it. */
  addOlder(runs: DigestColumns): void {
    let at = 0
    for (let i = 0; i < runs.count; i++) {
      const first = runs.first[i] ?? 0
      const end = first + (runs.blocks[i] ?? 0)
      const state = runs.state[i] ?? STATE_NONE
      for (let block = first; block < end; block++) {
        if (this.state[block] === STATE_NONE && block < this.blocks) {
          this.state[block] = state === STATE_PARTLY ? STATE_DIGEST : state
          this.partly[block] = state === STATE_PARTLY ? 1 : 0
          this.#missing--
          if (hasDigests(state)) {
            const from = at + (block - first) * DIGEST_BYTES
            this.digests.set(runs.digests.subarray(from, from + DIGEST_BYTES), block * DIGEST_BYTES)
          }
        }
      }
      if (hasDigests(state)) at += (end - first) * DIGEST_BYTES
    }
  }

  /** The digest of a block in STATE_DIGEST; a view, not a copy. */
  digest(block: number): Uint8Array {
    return this.digests.subarray(block * DIGEST_BYTES, (block + 1) * DIGEST_BYTES)
  }
}
