/*
 * The history of a machine: what is in its slots, as the newest fold says.
 *
 *   <slot>.json        claimed with the slot, once: a point, an audit, an aborted run, or a fold
 *   <slot>.r<n>.json   a point's manifest as the fold in slot n wrote it; counts when the newest fold names it
 *
 * The newest fold counts alone. Slots in its `dropped` hold nothing any more, whatever is left of them; what it does not
 * name in `revisions` is a killed prune's, or waits to be removed. Where the newest fold itself can't be read, the
 * highest revision of each point is taken: each tells the same content, and whoever writes is kept from removing
 * anything by the problem that is told.
 */
import { RefpointError } from '../model/errors.js'
import type { AbortedManifest, AuditManifest, FoldManifest, PointManifest, SlotManifest } from '../model/manifest.js'
import { inRanges } from '../model/slot-ranges.js'
import { machineRecordName, manifestPlace, maxSlot, pointName, pointsFolder, revisionName, slotOf } from './layout.js'
import { readLease } from './lease-record.js'
import { type MachineRecord, readMachine } from './machine.js'
import { isSegment } from './names.js'
import { readRevision, readSlot } from './read-slot.js'
import type { ReadRepository } from './repository.js'

/** Something wrong with what is, or should be, in a slot. */
export interface ManifestProblem {
  /** The slot; undefined for an object in the points folder that stands for none. */
  readonly point: number | undefined
  readonly object: string
  readonly message: string
}

export interface Manifests {
  /**
   * In slot order: those that are whole and in their place. A point here may still have an ancestor that is missing
   * (then that is among the problems): which of its stores need it, `storeChain` tells.
   */
  readonly points: readonly PointManifest[]
  readonly aborted: readonly AbortedManifest[]
  /** In slot order. */
  readonly audits: readonly AuditManifest[]
  /** The newest fold; undefined where nothing was ever pruned, or it can't be read (a problem then). */
  readonly fold: FoldManifest | undefined
  /** Objects of the points folder that the newest fold makes superfluous. */
  readonly superseded: readonly string[]
  readonly problems: readonly ManifestProblem[]
  /** The first slot after all that were ever claimed, whatever is in them. */
  readonly nextSlot: number
}

/** Reads under way at once; more does not help a local disk and would crowd out other work. */
const concurrency = 16
/** A prune that commits while a reader lists makes it look again; more often than this, somebody else is at fault. */
const attempts = 10

/**
 * Reads the machine's history. What is wrong in it is told, never thrown: the commands decide what it means to them.
 * @throws RefpointError `io` when the repository can't be read.
 */
export async function readManifests(repository: ReadRepository, machine: string): Promise<Manifests> {
  for (let attempt = 1; ; attempt += 1) {
    const reading = new HistoryReading(repository, machine)
    const manifests = await reading.read()
    if (!reading.raced || attempt === attempts) return manifests
  }
}

/** The first slot that was never claimed. `floor` is one that must have been free once: all before it were claimed. */
export async function findNextSlot(repository: ReadRepository, machine: string, floor = 1): Promise<number> {
  const slots = (await repository.children(pointsFolder(machine))).map((name) => slotOf(name) ?? 0)
  const first = Math.max(floor, await firstSlotOf(repository, machine))
  const next = slots.reduce((highest, slot) => Math.max(highest, slot), first - 1) + 1
  if (next > maxSlot) throw new RefpointError('io', `machine '${machine}' has used up all ${maxSlot} points`)
  return next
}

/** 1 where the machine's record can't be read: then the slots that there are tell. */
async function firstSlotOf(repository: ReadRepository, machine: string): Promise<number> {
  try {
    return (await readMachine(repository, machine))?.firstSlot ?? 1
  } catch (error) {
    if (!(error instanceof RefpointError) || error.code !== 'damaged') throw error
    return 1
  }
}

/** Without the machine's record: a copy's numbers are so high that no other history has them. */
function guessFirstSlot([first = 1]: readonly number[]): number {
  return first > maxSlot / 2 ? first : 1
}

/** One look at a machine's history. */
class HistoryReading {
  /** Whether something that was listed was gone when it was read: a prune ended meanwhile. */
  raced = false
  readonly #repository: ReadRepository
  readonly #machine: string
  readonly #problems: ManifestProblem[] = []

  constructor(repository: ReadRepository, machine: string) {
    this.#repository = repository
    this.#machine = machine
  }

  async read(): Promise<Manifests> {
    const folder = pointsFolder(this.#machine)
    // Before the names are listed: what it says of slots is true of every later list.
    const floor = await this.#leasedSlot()
    const slots: number[] = []
    const revisions: { readonly slot: number; readonly revision: number }[] = []
    for (const name of await this.#repository.children(folder)) {
      const place = manifestPlace(name)
      if (place === undefined) this.#problem(undefined, `${folder}/${name}`, `${name} is no manifest's name`)
      else if (place.revision === undefined) slots.push(place.slot)
      else revisions.push({ slot: place.slot, revision: place.revision })
    }
    slots.sort((a, b) => a - b)
    const { uuid, firstSlot } = (await this.#record()) ?? { uuid: undefined, firstSlot: guessFirstSlot(slots) }
    const nextSlot = Math.max((slots.at(-1) ?? 0) + 1, floor)
    const claimed = await this.#readAll(slots, (slot) => readSlot(this.#repository, this.#machine, slot), (slot) => [
      slot,
      pointName(this.#machine, slot),
    ])
    const fold = claimed.findLast((manifest) => manifest.type === 'fold')
    // What is told of lost or unreadable slots may be of a fold.
    const foldLost = this.#problems.length > 0 || (firstSlot > 1 && slots.length < nextSlot - firstSlot)
    const wanted = this.#wantedRevisions(fold, foldLost, revisions, (slot) => slot < firstSlot || slots.includes(slot))
    const revised = await this.#readAll(
      [...wanted],
      ([slot, revision]) => readRevision(this.#repository, this.#machine, slot, revision),
      ([slot, revision]) => [slot, revisionName(this.#machine, slot, revision)],
    )
    const gone = (slot: number): boolean => fold !== undefined && slot < fold.point && inRanges(fold.dropped, slot)
    const points = [...claimed.filter((manifest) => !wanted.has(manifest.point)), ...revised]
      .filter((manifest) => manifest.type === 'point')
      .filter((manifest) => !gone(manifest.point) && this.#isInPlace(manifest, uuid))
      .sort((a, b) => a.point - b.point)
    const left = claimed.filter(({ point }) => !gone(point))
    const aborted = left.filter((manifest) => manifest.type === 'aborted')
    const audits = left.filter((manifest) => manifest.type === 'audit').filter((audit) => this.#isInPlace(audit, uuid))
    this.#dropProblemsOf((slot, object) => gone(slot) || (wanted.has(slot) && object === pointName(this.#machine, slot)))
    const known = new Set([...slots, ...wanted.keys()])
    this.#tellMissing(firstSlot, nextSlot, (slot) => known.has(slot) || gone(slot))
    this.#tellBrokenParents(points)
    return {
      points,
      aborted,
      audits,
      fold,
      superseded: foldLost && fold === undefined ? [] : this.#superseded(fold, slots, revisions, wanted, gone),
      problems: this.#problems.toSorted((a, b) => (a.point ?? 0) - (b.point ?? 0)),
      nextSlot,
    }
  }

  /** Slot to the revision that counts. */
  #wantedRevisions(
    fold: FoldManifest | undefined,
    foldLost: boolean,
    found: readonly { readonly slot: number; readonly revision: number }[],
    isNothingYet: (slot: number) => boolean,
  ): ReadonlyMap<number, number> {
    if (fold !== undefined) return new Map(fold.revisions.map(([slot, revision]) => [slot, revision]))
    const highest = new Map<number, number>()
    // Without any fold a revision is what a prune or a copy wrote that never committed, unless the fold is lost.
    for (const { slot, revision } of found) {
      if (!foldLost && isNothingYet(slot)) continue
      highest.set(slot, Math.max(revision, highest.get(slot) ?? 0))
    }
    return highest
  }

  #superseded(
    fold: FoldManifest | undefined,
    slots: readonly number[],
    revisions: readonly { readonly slot: number; readonly revision: number }[],
    wanted: ReadonlyMap<number, number>,
    gone: (slot: number) => boolean,
  ): readonly string[] {
    return [
      ...slots
        .filter((slot) => fold !== undefined && slot < fold.point && (gone(slot) || wanted.has(slot)))
        .map((slot) => pointName(this.#machine, slot)),
      ...revisions
        .filter(({ slot, revision }) => wanted.get(slot) !== revision)
        .map(({ slot, revision }) => revisionName(this.#machine, slot, revision)),
    ]
  }

  /** The slot that the newest lease was given; every slot before it was claimed then. */
  async #leasedSlot(): Promise<number> {
    try {
      return (await readLease(this.#repository, this.#machine))?.record.slots[0] ?? 1
    } catch (error) {
      if (!(error instanceof RefpointError) || error.code !== 'damaged') throw error
      return 1
    }
  }

  /** The machine's record; without it manifests can't be held against its uuid. */
  async #record(): Promise<MachineRecord | undefined> {
    const object = machineRecordName(this.#machine)
    try {
      const record = await readMachine(this.#repository, this.#machine)
      if (record !== undefined) return record
      this.#problem(undefined, object, `the record of machine '${this.#machine}' is missing`)
    } catch (error) {
      if (!(error instanceof RefpointError) || error.code !== 'damaged') throw error
      this.#problem(undefined, object, error.message)
    }
    return undefined
  }

  /** Reads many manifests; what can't be read is told, what is gone makes for another look. In slot order. */
  async #readAll<Key, Manifest extends SlotManifest>(
    keys: readonly Key[],
    read: (key: Key) => Promise<Manifest | undefined>,
    placeOf: (key: Key) => readonly [number, string],
  ): Promise<readonly Manifest[]> {
    const found: Manifest[] = []
    const queue = keys.values()
    const work = async (): Promise<void> => {
      for (const key of queue) {
        const [slot, object] = placeOf(key)
        try {
          const manifest = await read(key)
          if (manifest !== undefined) found.push(manifest)
          else {
            this.raced = true
            this.#problem(slot, object, `the manifest of point #${slot} is missing: ${object}`)
          }
        } catch (error) {
          if (!(error instanceof RefpointError) || error.code !== 'damaged') throw error
          this.#problem(slot, object, error.message)
        }
      }
    }
    await Promise.all(Array.from({ length: concurrency }, work))
    return found.sort((a, b) => a.point - b.point)
  }

  #isInPlace(manifest: PointManifest | AuditManifest, uuid: string | undefined): boolean {
    const wrong = misplaced(this.#machine, uuid, manifest)
    if (wrong === undefined) return true
    const { point, type } = manifest
    const revision = type === 'point' ? manifest.revision : undefined
    const object =
      revision === undefined ? pointName(this.#machine, point) : revisionName(this.#machine, point, revision)
    this.#problem(point, object, `the manifest of ${type} #${point} of machine '${this.#machine}' ${wrong}`)
    return false
  }

  /**
   * Slots are claimed one after the other and never given back, so that a gap is a manifest that was lost. Below the
   * first slot of a copy are the points that were copied, each named by the newest fold.
   */
  #tellMissing(firstSlot: number, nextSlot: number, known: (slot: number) => boolean): void {
    for (let slot = firstSlot; slot < nextSlot; slot += 1) {
      if (known(slot)) continue
      const first = slot
      while (slot + 1 < nextSlot && !known(slot + 1)) slot += 1
      const which = slot === first ? `point #${first}` : `points #${first} to #${slot}`
      this.#problem(first, pointName(this.#machine, first), `the manifest of ${which} is missing`)
    }
  }

  #tellBrokenParents(points: readonly PointManifest[]): void {
    const known = new Set(points.map(({ point }) => point))
    for (const { point, parent } of points) {
      if (parent === null || known.has(parent)) continue
      const message = `the parent of point #${point}, #${parent}, is missing or unreadable`
      this.#problem(point, pointName(this.#machine, point), message)
    }
  }

  #dropProblemsOf(settled: (slot: number, object: string) => boolean): void {
    const rest = this.#problems.filter(({ point, object }) => point === undefined || !settled(point, object))
    this.#problems.splice(0, Infinity, ...rest)
  }

  #problem(point: number | undefined, object: string, message: string): void {
    this.#problems.push({ point, object, message })
  }
}

/** Why a manifest can't be of its machine and slot. */
function misplaced(
  machine: string,
  uuid: string | undefined,
  manifest: PointManifest | AuditManifest,
): string | undefined {
  if (manifest.machine !== machine) return `is of machine '${manifest.machine}'`
  if (uuid !== undefined && manifest.machineUuid !== uuid) return `is of another machine (uuid ${manifest.machineUuid})`
  if (manifest.type === 'audit') return undefined
  if (manifest.parent !== null && manifest.parent >= manifest.point) {
    return `names #${manifest.parent} as its parent, which is not earlier`
  }
  if (!manifest.archive.name.split('/').every(isSegment)) return 'names an archive outside the repository'
  return undefined
}
