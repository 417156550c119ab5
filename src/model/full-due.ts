import type { PointManifest } from './manifest.js'
import { wholeAt } from './whole-at.js'

const dayMs = 86_400_000
/** A nightly run is not always begun at the same second, and clocks are put forward: neither costs a day. */
const slackMs = 2 * 3_600_000

/**
 * Why the next point has to be a full, where one is wanted every so often; undefined when it has not. A last full that
 * lies in the future tells of a clock that was wrong then: it counts as too long ago.
 */
export function fullDue(
  newest: PointManifest | undefined,
  bySlot: ReadonlyMap<number, PointManifest>,
  everyMs: number | undefined,
  nowMs: number,
): string | undefined {
  if (newest === undefined || everyMs === undefined) return undefined
  const last = wholeAt(newest, bySlot)
  const elapsedMs = nowMs - Date.parse(last)
  if (elapsedMs >= -dayMs && elapsedMs < everyMs - slackMs) return undefined
  return `a full every ${Math.round(everyMs / dayMs)} days is configured, the last was of ${last}`
}
