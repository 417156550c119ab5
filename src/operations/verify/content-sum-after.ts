import { ContentSum } from '../../archive/content-sum.js'
import { storeRecord } from '../../model/chain.js'
import {
  blockCount,
  DIGEST_BYTES,
  hasDigests,
  STATE_DIGEST,
  STATE_NONE,
  STATE_UNKNOWN,
  WINDOW_BLOCKS,
  windowCount,
} from '../../model/geometry.js'
import type { PointManifest } from '../../model/manifest.js'
import type { StoreChain } from '../chain-reader.js'

/**
 * The content sum that a store must have at the chain's newest point: the parent's, with the digests that this point
 * replaced taken out and its own put in. Costs what the point changed. Null where an unknown digest leaves it open.
 */
export async function contentSumAfter(
  chain: StoreChain,
  store: string,
  parent: PointManifest | undefined,
): Promise<string | null> {
  const [own] = chain.archives
  const reader = own?.reader.store(store)
  const sum = new ContentSum()
  const older = chain.archives.length > 1 ? chain.older() : undefined
  if (older !== undefined) {
    const before = parent === undefined ? undefined : storeRecord(parent, store)
    if (before?.contentSum == null) return null
    sum.addHex(before.contentSum)
    for (let window = 0; window < windowCount(older.sizeBytes); window++) {
      const touched = reader?.directoryRow(window) !== undefined
      const firstGone = blockCount(chain.sizeBytes) - window * WINDOW_BLOCKS
      if (!touched && firstGone >= WINDOW_BLOCKS) continue
      const replaced = touched ? await ownBlocks(chain, store, window) : new Set<number>()
      const old = await older.digestWindow(window)
      for (let block = 0; block < old.blocks; block++) {
        if (!replaced.has(block) && block < firstGone) continue
        if (old.state[block] === STATE_UNKNOWN) return null
        if (old.state[block] === STATE_DIGEST) sum.subtract(window * WINDOW_BLOCKS + block, old.digest(block))
      }
    }
  }
  for (const window of reader?.windows ?? []) {
    const runs = (await reader?.window(window))?.runs
    let at = 0
    for (let i = 0; i < (runs?.count ?? 0); i++) {
      const state = runs?.state[i] ?? STATE_NONE
      if (state === STATE_UNKNOWN) return null
      if (!hasDigests(state)) continue
      for (let n = 0; n < (runs?.blocks[i] ?? 0); n++) {
        const digest = runs?.digests.subarray(at, at + DIGEST_BYTES)
        if (digest !== undefined) sum.add(window * WINDOW_BLOCKS + (runs?.first[i] ?? 0) + n, digest)
        at += DIGEST_BYTES
      }
    }
  }
  return sum.toHex()
}

async function ownBlocks(chain: StoreChain, store: string, window: number): Promise<Set<number>> {
  const blocks = new Set<number>()
  const runs = (await chain.archives[0]?.reader.store(store)?.window(window))?.runs
  for (let i = 0; i < (runs?.count ?? 0); i++) {
    for (let n = 0; n < (runs?.blocks[i] ?? 0); n++) blocks.add((runs?.first[i] ?? 0) + n)
  }
  return blocks
}
