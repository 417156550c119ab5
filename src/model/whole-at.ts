import { parentOf } from './fold-plan.js'
import type { PointManifest } from './manifest.js'

/**
 * When the stores of a point's chain were last read from the source as a whole: the time of the full that a backup took,
 * wherever folding has put its content since. ISO 8601, UTC.
 */
export function wholeAt(point: PointManifest, bySlot: ReadonlyMap<number, PointManifest>): string {
  let root = point
  while (root.wholeAt === undefined) {
    const parent = parentOf(root)
    const next = parent === null ? undefined : bySlot.get(parent)
    if (next === undefined || next.point >= root.point) break
    root = next
  }
  return root.wholeAt ?? root.time
}
