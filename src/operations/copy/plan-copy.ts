import { parentOf } from '../../model/fold-plan.js'
import { RefpointError } from '../../model/errors.js'
import type { PointManifest } from '../../model/manifest.js'
import { isSamePoint } from '../../model/same-point.js'
import { inRanges, type SlotRanges } from '../../model/slot-ranges.js'

export interface CopyPlanInput {
  /** Points of the source, by slot. */
  readonly source: readonly PointManifest[]
  /** Slots of the source's points that are to be in the copy. */
  readonly chosen: ReadonlySet<number>
  /** Points that the copy has. */
  readonly there: readonly PointManifest[]
  /** Of those, points whose archive is not there or has another size. */
  readonly withoutArchive: ReadonlySet<number>
  /** Numbers that were pruned in the copy: they do not come back by themselves. */
  readonly prunedThere: SlotRanges
  /** Points of the source that turned out to be damaged. */
  readonly damaged: ReadonlySet<number>
}

export interface CopyPlan {
  /** By slot, so that what a point builds on is there before it. */
  readonly copy: readonly PointManifest[]
  /** Chosen points that are there. */
  readonly there: readonly number[]
  /** Chosen points that are missing there and can't be copied, and the slot that each would need. */
  readonly blocked: readonly { readonly point: number; readonly by: number }[]
}

/**
 * What is missing in a copy: the chosen points, and what they build on. A point counts by its content, not by how it is
 * stored: the source and the copy may have been pruned differently.
 * @throws RefpointError `damaged` when the copy has another point of a number.
 */
export function planCopy(input: CopyPlanInput): CopyPlan {
  const { chosen, damaged, withoutArchive } = input
  const bySlot = new Map(input.source.map((point) => [point.point, point]))
  const there = new Set<number>()
  for (const known of input.there) {
    const point = bySlot.get(known.point)
    if (point !== undefined && !isSamePoint(point, known)) throw diverged(point, known)
    if (!withoutArchive.has(known.point)) there.add(known.point)
  }
  const copy = new Map<number, PointManifest>()
  const blocked: { point: number; by: number }[] = []
  const done: number[] = []
  for (const slot of [...chosen].sort((a, b) => a - b)) {
    if (there.has(slot)) {
      done.push(slot)
      continue
    }
    // A point that lost its archive was not pruned, and is made whole again.
    if (inRanges(input.prunedThere, slot)) continue
    const needed: PointManifest[] = []
    let by: number | undefined
    for (let next: number | null = slot; next !== null && !there.has(next) && !copy.has(next); ) {
      const point = bySlot.get(next)
      if (point === undefined || damaged.has(next)) {
        by = next
        break
      }
      needed.push(point)
      next = parentOf(point)
    }
    if (by !== undefined) blocked.push({ point: slot, by })
    else for (const point of needed) copy.set(point.point, point)
  }
  return { copy: [...copy.values()].sort((a, b) => a.point - b.point), there: done, blocked }
}

function diverged(source: PointManifest, there: PointManifest): RefpointError {
  const { machine, point } = source
  return new RefpointError(
    'damaged',
    `point #${point} of machine '${machine}' is not the same in both repositories: taken ${source.time} here, ${there.time} there`,
    {
      hint: 'One of them was put back to an earlier state and went on from there. Nothing was copied; copy to a new repository, and keep this one for what it alone has.',
      fields: { machine, point, here: source.time, there: there.time },
    },
  )
}
