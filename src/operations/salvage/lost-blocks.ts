import type { Range } from '../../model/extent.js'
import { DIGEST_BLOCK_BYTES } from '../../model/geometry.js'

/**
 * - `lost`: reads as zeroes now; what it was is gone, or can't be proven
 * - `older`: what an older point holds, where an archive in between that may hold newer content is lost
 * - `unchecked`: restored, and nobody knows its digest
 */
export type LossKind = 'lost' | 'older' | 'unchecked'

/** Why bytes are not proven to be what they were. */
export interface Loss {
  readonly kind: LossKind
  /** The point in whose archive or manifest the damage is; null where the tables of several disagree. */
  readonly point: number | null
  /** Its archive's name in the repository; null for a lost manifest, and where several disagree. */
  readonly archive: string | null
  readonly reason: string
}

/** Bytes of a store, whole digest blocks: nothing less can be proven. */
export type LostRange = Range & Loss

/** Collects blocks that turn out to be damaged, in any order. Of a block with several causes the first is told. */
export class LostBlocks {
  readonly #blocks = new Map<number, Loss>()

  /** @param loss one object for all blocks of one cause: they are joined by it. */
  addRanges(ranges: readonly Range[], loss: Loss): void {
    for (const { offset, length } of ranges) {
      const end = Math.ceil((offset + length) / DIGEST_BLOCK_BYTES)
      for (let block = Math.floor(offset / DIGEST_BLOCK_BYTES); block < end; block++) {
        if (!this.#blocks.has(block)) this.#blocks.set(block, loss)
      }
    }
  }

  /** Ascending; neighbours of one cause are joined. The last block is as short as the store. */
  ranges(sizeBytes: number): readonly LostRange[] {
    const ranges: LostRange[] = []
    for (const [block, loss] of [...this.#blocks].sort(([a], [b]) => a - b)) {
      const offset = block * DIGEST_BLOCK_BYTES
      pushJoined(ranges, { offset, length: Math.min(DIGEST_BLOCK_BYTES, sizeBytes - offset), ...loss })
    }
    return ranges
  }
}

/** Appends a range to ascending ones, joined to the last where it goes on with the same cause. */
export function pushJoined(ranges: LostRange[], next: LostRange): void {
  const last = ranges.at(-1)
  const joins =
    last !== undefined &&
    last.offset + last.length === next.offset &&
    last.kind === next.kind &&
    last.point === next.point &&
    last.archive === next.archive &&
    last.reason === next.reason
  if (joins) ranges[ranges.length - 1] = { ...last, length: last.length + next.length }
  else ranges.push(next)
}

/** Both lists in one, ascending and without overlaps: where they meet, what `upper` says is told. */
export function overlay(upper: readonly LostRange[], lower: readonly LostRange[]): readonly LostRange[] {
  const merged: LostRange[] = []
  let next = 0
  const addUpper = (before: number): void => {
    for (let range = upper[next]; range !== undefined && range.offset < before; range = upper[++next]) {
      pushJoined(merged, range)
    }
  }
  for (const range of lower) {
    let at = range.offset
    const end = range.offset + range.length
    addUpper(at)
    const before = merged.at(-1)
    if (before !== undefined) at = Math.max(at, before.offset + before.length)
    while (at < end) {
      const above = upper[next]
      const stop = Math.min(end, above?.offset ?? end)
      if (stop > at) pushJoined(merged, { ...range, offset: at, length: stop - at })
      at = stop
      if (above === undefined || above.offset >= end) break
      pushJoined(merged, above)
      next++
      at = above.offset + above.length
    }
  }
  addUpper(Infinity)
  return merged
}
