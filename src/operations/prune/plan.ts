import { storeChain } from '../../model/chain.js'
import { RefpointError } from '../../model/errors.js'
import { closure, type FoldPlan, parentOf, planFolds } from '../../model/fold-plan.js'
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

/** Decides what becomes of every point of a machine. Looks at its archives' names and sizes, nothing else. */
export async function planPrune(
  repository: ReadRepository,
  machine: string,
  points: readonly PointManifest[],
  request: PlanRequest,
): Promise<PrunePlan> {
  const { damaged, reasons } = await chooseWhole(repository, machine, points, request)
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

interface Choice {
  readonly damaged: ReadonlySet<number>
  readonly reasons: ReadonlyMap<number, readonly KeepReason[]>
}

/**
 * Chooses among the points that can be restored as far as anybody knows. That an archive is there, one list tells for all;
 * that it is as long as it should be is looked up only where it matters: of what is chosen, and what that builds on.
 */
async function chooseWhole(
  repository: ReadRepository,
  machine: string,
  points: readonly PointManifest[],
  request: PlanRequest,
): Promise<Choice> {
  const folder = archivesFolder(machine)
  const there = new Set((await repository.children(folder)).map((name) => `${folder}/${name}`))
  const broken = new Set(points.filter(({ archive }) => !there.has(archive.name)).map(({ point }) => point))
  for (const point of request.damaged) broken.add(point)
  const bySlot = new Map(points.map((point) => [point.point, point]))
  const measured = new Set<number>()
  for (;;) {
    const damaged = withWhatBuildsOn(broken, points, bySlot)
    const reasons = choose(points, damaged, request)
    const open = [...closure([...reasons.keys()], bySlot)].filter((slot) => !measured.has(slot) && !broken.has(slot))
    for (const slot of open) measured.add(slot)
    const short = await shortArchives(repository, open.flatMap((slot) => bySlot.get(slot) ?? []))
    if (short.length === 0) return { damaged, reasons }
    for (const slot of short) broken.add(slot)
  }
}

function choose(points: readonly PointManifest[], damaged: ReadonlySet<number>, request: PlanRequest): Choice['reasons'] {
  return chooseKept({
    rules: request.rules,
    points: points.map(({ point, time }) => ({
      point,
      timeMs: Date.parse(time),
      damaged: damaged.has(point),
      held: request.held.has(point),
    })),
    offsetMinutes: offsetMinutesIn(request.zone),
  })
}

/** Points whose archive has another size than their manifest says. */
async function shortArchives(repository: ReadRepository, points: readonly PointManifest[]): Promise<readonly number[]> {
  const short: number[] = []
  const queue = points.values()
  const work = async (): Promise<void> => {
    for (const { point, archive } of queue) {
      if ((await repository.stat(archive.name))?.bytes !== archive.bytes) short.push(point)
    }
  }
  await Promise.all(Array.from({ length: 16 }, work))
  return short
}

/** Points that are broken themselves, or build on one that is, or on none that is there. */
function withWhatBuildsOn(
  broken: ReadonlySet<number>,
  points: readonly PointManifest[],
  bySlot: ReadonlyMap<number, PointManifest>,
): ReadonlySet<number> {
  const damaged = new Set<number>()
  // By slot, so that what a point builds on was judged before it.
  for (const point of points) {
    const parent = parentOf(point)
    const whole =
      !broken.has(point.point) &&
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
