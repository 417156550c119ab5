import { storeChain } from '../../model/chain.js'
import { RefpointError } from '../../model/errors.js'
import { type FoldPlan, parentOf, planFolds } from '../../model/fold-plan.js'
import type { PointManifest } from '../../model/manifest.js'
import { chooseKept, type KeepReason, type KeepRules } from '../../model/retention.js'
import { archivesFolder } from '../../repository/layout.js'
import type { ReadRepository } from '../../repository/repository.js'
import { offsetMinutesIn } from './zone.js'

export interface PlanRequest {
  readonly rules: KeepRules
  /** The zone whose days and weeks are meant, such as Europe/Berlin; the system's when undefined. */
  readonly zone: string | undefined
  /** Points that are held. */
  readonly held: ReadonlySet<number>
  /** Points that a verify found damaged. */
  readonly damaged: ReadonlySet<number>
  /** See `planFolds`. */
  readonly archiveCostBytes: number | undefined
}

/** What becomes of one point, and why. */
export interface PointFate {
  readonly point: number
  readonly time: string
  readonly archiveBytes: number
  readonly fate: 'stays' | 'goes'
  /** Why it stays for its own sake; empty for one that goes, or stays only for others. */
  readonly reasons: readonly KeepReason[]
  /** Points that build on it, where it stays only for those. */
  readonly neededBy: readonly number[]
  readonly damaged: boolean
  /** Whether its archive is written anew with what it needs of points that go. */
  readonly folded: boolean
}

export interface PrunePlan extends FoldPlan {
  readonly points: readonly PointFate[]
  /** Bytes of archives that go, less what folds write: at least this, and at most, since only merging tells. */
  readonly freesBytes: { readonly atLeast: number; readonly atMost: number }
}

/** Decides what becomes of every point of a machine. Reads the list of its archives, nothing else. */
export async function planPrune(
  repository: ReadRepository,
  machine: string,
  points: readonly PointManifest[],
  request: PlanRequest,
): Promise<PrunePlan> {
  const damaged = await damagedPoints(repository, machine, points, request.damaged)
  const reasons = chooseKept({
    rules: request.rules,
    points: points.map(({ point, time }) => ({
      point,
      timeMs: Date.parse(time),
      damaged: damaged.has(point),
      held: request.held.has(point),
    })),
    offsetMinutes: offsetMinutesIn(request.zone),
  })
  const plan = planFolds({ points, kept: new Set(reasons.keys()), damaged, archiveCostBytes: request.archiveCostBytes })
  const dropped = new Set(plan.dropped)
  const folded = new Set(plan.folds.map(({ target }) => target))
  const neededBy = new Map<number, number[]>()
  for (const point of points) {
    const parent = dropped.has(point.point) ? null : parentOf(point)
    if (parent !== null) neededBy.set(parent, [...(neededBy.get(parent) ?? []), point.point])
  }
  return {
    ...plan,
    points: points.map(({ point, time, archive }) => ({
      point,
      time,
      archiveBytes: archive.bytes,
      fate: dropped.has(point) ? 'goes' : 'stays',
      reasons: reasons.get(point) ?? [],
      neededBy: dropped.has(point) || reasons.has(point) ? [] : (neededBy.get(point) ?? []),
      damaged: damaged.has(point),
      folded: folded.has(point),
    })),
    freesBytes: freed(points, plan),
  }
}

/** Points that can't be restored as far as anybody knows: their own archive or one that they build on is not whole. */
async function damagedPoints(
  repository: ReadRepository,
  machine: string,
  points: readonly PointManifest[],
  known: ReadonlySet<number>,
): Promise<ReadonlySet<number>> {
  const sizes = new Map<string, number>()
  for await (const { name, bytes } of repository.list(archivesFolder(machine))) sizes.set(name, bytes)
  const bySlot = new Map(points.map((point) => [point.point, point]))
  const damaged = new Set<number>()
  // By slot, so that what a point builds on was judged before it.
  for (const point of points) {
    const parent = parentOf(point)
    const whole =
      !known.has(point.point) &&
      sizes.get(point.archive.name) === point.archive.bytes &&
      (parent === null || (bySlot.has(parent) && !damaged.has(parent))) &&
      hasItsStores(point, bySlot)
    if (!whole) damaged.add(point.point)
  }
  return damaged
}

/** Whether each store that is incremental is in the point's parent; with a whole parent, so is the rest of its chain. */
function hasItsStores(point: PointManifest, bySlot: ReadonlyMap<number, PointManifest>): boolean {
  try {
    for (const { name, mode } of point.stores) {
      const parent = point.parent === null ? undefined : bySlot.get(point.parent)
      if (mode !== 'full' && !parent?.stores.some((store) => store.name === name)) storeChain(point, name, bySlot)
    }
    return true
  } catch (error) {
    if (error instanceof RefpointError && error.code === 'damaged') return false
    throw error
  }
}

function freed(points: readonly PointManifest[], { dropped, folds }: FoldPlan): PrunePlan['freesBytes'] {
  const bytes = new Map(points.map(({ point, archive }) => [point, archive.bytes]))
  const of = (slots: readonly number[]): number => slots.reduce((sum, slot) => sum + (bytes.get(slot) ?? 0), 0)
  const folded = new Set(folds.flatMap(({ members }) => members))
  const whole = of(dropped.filter((slot) => !folded.has(slot)))
  // A fold writes no more than its members hold, and no less than its newest member does.
  const most = folds.reduce((sum, { members }) => sum + of(members) - of(members.slice(0, 1)), 0)
  return { atLeast: whole, atMost: whole + most }
}
