import { RefpointError } from '../model/errors.js'
import { archivesFolder, machineFolder, pointsFolder } from './layout.js'
import type { Lease } from './lease.js'
import type { LeaseClock } from './lease-clock.js'
import { type Manifests, readManifests } from './manifests.js'
import { livePins } from './pin.js'
import type { ProcessIdentity } from './process-identity.js'
import type { ObjectInfo, PruneRepository } from './repository.js'

export interface TidyOptions {
  /** Whether to wait for what readers on other hosts do; see `livePins`. */
  readonly watch: boolean
  readonly signal?: AbortSignal
  readonly clock?: LeaseClock
  readonly self?: ProcessIdentity
}

export interface Tidied {
  /** The history as it was read on the way. */
  readonly manifests: Manifests
  readonly removedObjects: number
  readonly removedBytes: number
  /** What nobody needs any more and is still there: a reader pins it, or the storage refused to remove it. */
  readonly deferredObjects: number
  readonly deferredBytes: number
  /** Why, for a person; empty when nothing was deferred. */
  readonly deferredFor: readonly string[]
  /** Whether the storage is why: somebody should look at that. Readers end by themselves. */
  readonly refused: boolean
}

/**
 * Removes what no point needs any more: half-written files of dead runs, archives that no manifest names, manifests that
 * the newest fold gave up. Nothing where any manifest is lost or can't be read: what it names must stay.
 *
 * The order is what makes a run harmless that sleeps in here and wakes when another has taken over. What is to be removed
 * was listed before the lease was seen to be ours; whoever had it before then can commit nothing more, and whoever
 * gets it later uses other names.
 */
export async function tidyMachine(
  repository: PruneRepository,
  machine: string,
  lease: Lease,
  options: TidyOptions,
): Promise<Tidied> {
  await repository.sweep(machineFolder(machine))
  const archives: ObjectInfo[] = []
  for await (const archive of repository.list(archivesFolder(machine))) archives.push(archive)
  const listed = new Set(await repository.children(pointsFolder(machine)))
  await lease.assertHeld()
  const manifests = await readManifests(repository, machine)
  const { points, problems, fold, nextSlot } = manifests
  const nothing = { manifests, removedObjects: 0, removedBytes: 0, refused: false }
  // Archives without a single slot: the points were lost, not the archives left over.
  if (problems.length > 0 || nextSlot === 1) {
    return { ...nothing, deferredObjects: 0, deferredBytes: 0, deferredFor: [] }
  }
  const named = new Set(points.map((point) => point.archive.name))
  const orphans = archives.filter(({ name }) => !named.has(name))
  const superseded = manifests.superseded.filter((name) => listed.has(name.slice(name.lastIndexOf('/') + 1)))
  const names = [...superseded, ...orphans.map(({ name }) => name)]
  const bytes = orphans.reduce((sum, archive) => sum + archive.bytes, 0)
  if (names.length === 0) return { ...nothing, deferredObjects: 0, deferredBytes: 0, deferredFor: [] }

  const readers = fold === undefined ? [] : await livePins(repository, machine, { before: fold.point, ...options })
  if (readers.length > 0) {
    const deferredFor = readers.map(
      ({ command, holder, since }) => `'${command}' (pid ${holder.pid} on ${holder.host}) reads since ${since}`,
    )
    return { ...nothing, deferredObjects: names.length, deferredBytes: bytes, deferredFor }
  }
  try {
    // Manifests first: none is ever there without its archive.
    await repository.remove(names)
  } catch (error) {
    if (!(error instanceof RefpointError) || error.code !== 'io') throw error
    return { ...nothing, deferredObjects: names.length, deferredBytes: bytes, deferredFor: [error.message], refused: true }
  }
  const removed = { removedObjects: names.length, removedBytes: bytes }
  return { ...nothing, ...removed, deferredObjects: 0, deferredBytes: 0, deferredFor: [] }
}
