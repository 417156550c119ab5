import type { PointManifest } from './manifest.js'

/*
 * Which archives are written anew when points go, so that neither space nor the reads of one restore grow with the
 * years, and no byte is moved each night.
 *
 * A point that goes and that nobody needs is dropped with its archive. One that others build on is part of a *run*: the
 * points that go, one after the other, up to the first that stays (or that several build on). The archives of a run are
 * merged in groups whose sizes fall by half from the oldest to the newest:
 *
 *   - a restore meets at most log2(largest of the run in MiB) + 1 archives of each run;
 *   - what the older groups hold in vain (newer ones have it too) is at most as much as the largest of them;
 *   - a byte moves again only when the group that it is in at least doubles, or is smaller than what comes after it.
 *
 * A run that begins with a full is worth a copy of the whole disk: it is folded, all at once, into the point that stays
 * when what came after the full exceeds a third of it. Until then the full stays as it is.
 */

/** One archive that is written anew: everything that `members` hold, the newest winning, as point `target`. */
export interface Fold {
  readonly target: number
  /** Newest first; the target is the first, all others go with this fold. */
  readonly members: readonly number[]
  /** What the new archive builds on; null when it holds everything. */
  readonly parent: number | null
}

export interface FoldPlan {
  /** Points that are gone afterwards, ascending. */
  readonly dropped: readonly number[]
  /** Oldest target first. */
  readonly folds: readonly Fold[]
  /** Points that no rule keeps and that stay for those that build on them, ascending. */
  readonly needed: readonly number[]
}

export interface FoldPlanInput {
  readonly points: readonly PointManifest[]
  /** Points that stay for their own sake. */
  readonly kept: ReadonlySet<number>
  /** Points whose archives can't be read whole: neither they nor what they build on is written anew. */
  readonly damaged: ReadonlySet<number>
  /** What meeting one more archive costs, as bytes of it; default 1 MiB. */
  readonly archiveCostBytes?: number | undefined
}

const defaultCostBytes = 1_048_576
/** The part of a full that may have been replaced before it is copied. */
export const baseDeadLimit = 1 / 3

/** Plans one machine's folds. Pure. */
export function planFolds(input: FoldPlanInput): FoldPlan {
  const { points, kept, damaged, archiveCostBytes = defaultCostBytes } = input
  const sizeOf = (point: PointManifest): number => Math.max(archiveCostBytes, point.archive.bytes)
  const bySlot = new Map(points.map((point) => [point.point, point]))
  const live = closure([...kept], bySlot)
  const frozen = closure([...damaged].filter((slot) => live.has(slot)), bySlot)
  const children = new Map<number, number>()
  for (const slot of live) {
    const parent = parentOf(bySlot.get(slot))
    if (parent !== null) children.set(parent, (children.get(parent) ?? 0) + 1)
  }
  const foldable = (slot: number | null): slot is number =>
    slot !== null && live.has(slot) && !kept.has(slot) && !frozen.has(slot) && children.get(slot) === 1
  const folds: Fold[] = []
  for (const slot of [...live].sort((a, b) => a - b)) {
    if (foldable(slot) || frozen.has(slot)) continue
    const run: PointManifest[] = []
    for (let at: number | null = slot; at === slot || foldable(at); at = parentOf(run[0])) {
      const point: PointManifest | undefined = at === null ? undefined : bySlot.get(at)
      if (point === undefined) break
      run.unshift(point)
    }
    folds.push(...foldRun(run, sizeOf))
  }
  const folded = new Set(folds.flatMap(({ members }) => members.slice(1)))
  const gone = points.map(({ point }) => point).filter((slot) => !live.has(slot) || folded.has(slot))
  const needed = [...live].filter((slot) => !kept.has(slot) && !folded.has(slot))
  const ascending = (a: number, b: number): number => a - b
  return { dropped: gone.sort(ascending), folds: folds.sort((a, b) => a.target - b.target), needed: needed.sort(ascending) }
}

/** Bytes of a point's archive, or what meeting it costs if that is more. */
type SizeOf = (point: PointManifest) => number

/** @param run oldest first, ending with the point that stays; each builds on the one before it. */
function foldRun(run: readonly PointManifest[], sizeOf: SizeOf): readonly Fold[] {
  const [first, ...rest] = run
  if (first === undefined || rest.length === 0) return []
  if (parentOf(first) !== null) return groups(run, sizeOf)
  const replacedBytes = sum(rest, sizeOf)
  const replacedContent = sum(rest, (point) => sum(point.stores, (store) => store.changedBytes))
  const content = sum(first.stores, (store) => store.contentBytes)
  const worthIt = replacedBytes > sizeOf(first) * baseDeadLimit || replacedContent > content * baseDeadLimit
  return worthIt ? [foldOf(run)] : groups(rest, sizeOf)
}

/** Merges neighbours until each group is at least twice the one after it. */
function groups(run: readonly PointManifest[], sizeOf: SizeOf): readonly Fold[] {
  const stack: { bytes: number; readonly members: PointManifest[] }[] = []
  for (const point of run) {
    stack.push({ bytes: sizeOf(point), members: [point] })
    for (;;) {
      const last = stack.at(-1)
      const before = stack.at(-2)
      if (last === undefined || before === undefined || before.bytes >= 2 * last.bytes) break
      stack.pop()
      before.bytes += last.bytes
      before.members.push(...last.members)
    }
  }
  return stack.filter(({ members }) => members.length > 1).map(({ members }) => foldOf(members))
}

/** @param members oldest first. */
function foldOf(members: readonly PointManifest[]): Fold {
  const slots = members.map(({ point }) => point).reverse()
  return { target: slots[0] ?? 0, members: slots, parent: parentOf(members[0]) }
}

/** What a point builds on; a point with every store in full needs none, whatever its manifest names. */
export function parentOf(point: PointManifest | undefined): number | null {
  if (point === undefined || point.stores.every((store) => store.mode === 'full')) return null
  return point.parent
}

/** These slots and all that they build on. */
export function closure(slots: readonly number[], bySlot: ReadonlyMap<number, PointManifest>): Set<number> {
  const found = new Set<number>()
  for (const slot of slots) {
    for (let at: number | null = slot; at !== null && !found.has(at); at = parentOf(bySlot.get(at))) {
      if (!bySlot.has(at)) break
      found.add(at)
    }
  }
  return found
}

function sum<Item>(items: readonly Item[], of: (item: Item) => number): number {
  return items.reduce((total, item) => total + of(item), 0)
}
