import { RefpointError } from '../../model/errors.js'
import type { PointManifest } from '../../model/manifest.js'
import type { KeepRules } from '../../model/retention.js'
import { commitSlot } from '../../repository/commit.js'
import { readHolds } from '../../repository/holds.js'
import { encodeJson } from '../../repository/json-object.js'
import { revisionName } from '../../repository/layout.js'
import { acquireLease, type Lease } from '../../repository/lease.js'
import { hasMachine } from '../../repository/machine.js'
import { type Manifests, readManifests } from '../../repository/manifests.js'
import { pointsFoundDamaged } from '../../repository/proofs.js'
import { type Tidied, tidyMachine } from '../../repository/tidy.js'
import { ArchiveShelf } from '../chain-reader.js'
import type { WriteEnvironment } from '../environment.js'
import { checkSums } from '../fold/check-sums.js'
import { foldPoint } from '../fold/fold-point.js'
import type { PruneEvent, PruneStep } from './events.js'
import { assertWhole, foldManifest } from './fold-manifest.js'
import { planPrune, type PrunePlan } from './plan.js'

type Removal = Pick<Tidied, 'removedBytes' | 'deferredBytes' | 'deferredObjects' | 'deferredFor' | 'refused'>

export interface PruneRequest {
  readonly machine: string
  readonly rules: KeepRules
  /** The zone whose days and weeks are meant; the system's when undefined. */
  readonly zone: string | undefined
  /** Compression of what is cut anew. 1 to 19. */
  readonly level: number
  /** What meeting one more archive costs, as bytes of it; default 1 MiB. */
  readonly archiveCostBytes?: number
}

export interface PruneOptions {
  readonly signal: AbortSignal
  readonly onEvent?: (event: PruneEvent) => void
}

export interface PruneReport {
  readonly machine: string
  readonly plan: PrunePlan
  /** The slot of this prune; null when there was nothing to do. */
  readonly slot: number | null
  readonly writtenBytes: number
  /** Bytes of archives that were removed, less what was written. */
  readonly freedBytes: number
  /** Bytes and number of objects that nobody needs and that are still there, and why. */
  readonly deferredBytes: number
  readonly deferredObjects: number
  readonly deferredFor: readonly string[]
}

/**
 * What a prune would do. Takes no lock and changes nothing.
 * @throws RefpointError as `pruneMachine` does.
 */
export async function previewPrune(environment: WriteEnvironment, request: PruneRequest): Promise<PrunePlan> {
  const { repository } = environment
  await assertThere(environment, request.machine)
  const history = await readManifests(repository, request.machine)
  assertWhole(request.machine, history)
  return await plan(environment, request, history)
}

/**
 * Lets go of the points that no rule names. Everything new is written first, and counts for nothing; then one slot is
 * claimed with a fold that says what is gone and what counts, all at once; only then is anything removed. A kill or a
 * power cut at any instruction leaves the history as it was before, or as it is after.
 * @throws RefpointError `damaged` when a manifest is lost or unreadable, or an archive that is to be folded: nothing was
 * changed; `locked`, `usage`, `commit-unknown`.
 */
export async function pruneMachine(
  environment: WriteEnvironment,
  request: PruneRequest,
  options: PruneOptions,
): Promise<PruneReport> {
  await assertThere(environment, request.machine)
  const run = new PruneRun(environment, request, options)
  return await run.run()
}

class PruneRun {
  readonly #environment: WriteEnvironment
  readonly #request: PruneRequest
  readonly #options: PruneOptions

  constructor(environment: WriteEnvironment, request: PruneRequest, options: PruneOptions) {
    this.#environment = environment
    this.#request = request
    this.#options = options
  }

  async run(): Promise<PruneReport> {
    const { repository, command, ttlMs } = this.#environment
    const { machine } = this.#request
    await using lease = await acquireLease(repository, machine, { command, ttlMs, signal: this.#options.signal })
    this.#step('locked')
    const signal = AbortSignal.any([this.#options.signal, lease.lost])
    const before = await tidyMachine(repository, machine, lease, { watch: true, signal })
    this.#step('tidied')
    const { manifests } = before
    assertWhole(machine, manifests)
    const chosen = await plan(this.#environment, this.#request, manifests)
    this.#tell({ type: 'plan', machine, plan: chosen })
    this.#step('planned')
    if (chosen.dropped.length === 0) return this.#report(chosen, null, 0, [before])

    const revisions = await this.#rewrite(chosen, manifests.points, lease, signal)
    const writtenBytes = revisions.reduce((sum, { archive }) => sum + archive.bytes, 0)
    await this.#commit(chosen, manifests, revisions, lease, signal)
    const after = await this.#remove(lease, signal)
    return this.#report(chosen, lease.slot, writtenBytes, [before, after])
  }

  /** Writes and proves all new archives and manifests; nothing of it counts yet, and nothing is left when it fails. */
  async #rewrite(
    chosen: PrunePlan,
    points: readonly PointManifest[],
    lease: Lease,
    signal: AbortSignal,
  ): Promise<readonly PointManifest[]> {
    const { repository, codec } = this.#environment
    const { machine, level } = this.#request
    const bySlot = new Map(points.map((point) => [point.point, point]))
    const made: PointManifest[] = []
    try {
      for (const fold of chosen.folds) {
        this.#tell({ type: 'fold', machine, fold })
        // The archives of one fold at a time are open.
        await using shelf = new ArchiveShelf(repository, codec)
        const onBytes = (bytes: number): void => this.#tell({ type: 'written', machine, bytes })
        const input = { environment: this.#environment, fold, bySlot, shelf, slot: lease.slot, level, signal, onBytes }
        made.push(await foldPoint(input))
      }
      this.#step('folded')
      for (const manifest of made) await this.#claimRevision(manifest, lease.slot)
      this.#step('revised')
      await this.#check(chosen, points, made, signal)
      this.#step('checked')
      return made
    } catch (error) {
      await this.#discard(made, lease.slot)
      // Who slept and was taken over may find archives gone, and nothing is damaged by that.
      if (error instanceof RefpointError && error.code === 'damaged') await lease.assertHeld()
      throw error
    }
  }

  async #claimRevision(manifest: PointManifest, slot: number): Promise<void> {
    const object = revisionName(manifest.machine, manifest.point, slot)
    if ((await this.#environment.repository.claim(object, encodeJson(manifest))) === 'created') return
    throw new RefpointError('locked', `object ${object} is there already: another prune is at work`, {
      hint: 'Nothing was changed. Run the prune again.',
      fields: { machine: manifest.machine, object },
    })
  }

  async #check(
    chosen: PrunePlan,
    points: readonly PointManifest[],
    made: readonly PointManifest[],
    signal: AbortSignal,
  ): Promise<void> {
    const { repository, codec } = this.#environment
    const revised = new Map(made.map((manifest) => [manifest.point, manifest]))
    const dropped = new Set(chosen.dropped)
    const damaged = new Set(chosen.points.filter((point) => point.damaged).map(({ point }) => point))
    const after = points
      .filter(({ point }) => !dropped.has(point) && !damaged.has(point))
      .map((point) => revised.get(point.point) ?? point)
    await using shelf = new ArchiveShelf(repository, codec)
    await checkSums(after, new Set(revised.keys()), shelf, signal)
  }

  async #commit(
    chosen: PrunePlan,
    history: Manifests,
    revisions: readonly PointManifest[],
    lease: Lease,
    signal: AbortSignal,
  ): Promise<void> {
    const { repository, agent } = this.#environment
    const { slot } = lease
    try {
      signal.throwIfAborted()
      await lease.assertHeld()
      await commitSlot(repository, foldManifest({ slot, agent, history, dropped: chosen.dropped, revisions }))
    } catch (error) {
      // Whether the slot is ours is not known: the next run finds out, and tidies up what does not count.
      if (!(error instanceof RefpointError && error.code === 'commit-unknown')) await this.#discard(revisions, slot)
      throw error
    }
    this.#step('committed')
  }

  /** What this run wrote, and nobody else: its names are used once. What can't be removed now, the next run does. */
  async #discard(revisions: readonly PointManifest[], slot: number): Promise<void> {
    const { repository } = this.#environment
    for (const { machine, point, archive } of revisions) {
      await repository.remove([revisionName(machine, point, slot), archive.name]).catch(() => undefined)
    }
  }

  /** The prune has happened: whatever keeps its leftovers in place is told, and is no failure of it. */
  async #remove(lease: Lease, signal: AbortSignal): Promise<Removal> {
    const { machine } = this.#request
    try {
      const tidied = await tidyMachine(this.#environment.repository, machine, lease, { watch: true, signal })
      this.#step('removed')
      return tidied
    } catch (error) {
      if (!(error instanceof RefpointError)) throw error
      return { removedBytes: 0, deferredBytes: 0, deferredObjects: 0, deferredFor: [error.message], refused: true }
    }
  }

  #report(
    chosen: PrunePlan,
    slot: number | null,
    writtenBytes: number,
    removals: readonly Removal[],
  ): PruneReport {
    const last = removals.at(-1)
    for (const why of last?.refused === true ? last.deferredFor : []) {
      const message = `not everything that nobody needs could be removed: ${why}; the next prune or backup does it`
      this.#tell({ type: 'warning', machine: this.#request.machine, message })
    }
    return {
      machine: this.#request.machine,
      plan: chosen,
      slot,
      writtenBytes,
      freedBytes: removals.reduce((sum, { removedBytes }) => sum + removedBytes, 0) - writtenBytes,
      deferredBytes: last?.deferredBytes ?? 0,
      deferredObjects: last?.deferredObjects ?? 0,
      deferredFor: last?.deferredFor ?? [],
    }
  }

  #step(step: PruneStep): void {
    this.#tell({ type: 'step', machine: this.#request.machine, step })
  }

  #tell(event: PruneEvent): void {
    this.#options.onEvent?.(event)
  }
}

async function plan(
  { repository }: WriteEnvironment,
  { machine, rules, zone, archiveCostBytes }: PruneRequest,
  { points }: Manifests,
): Promise<PrunePlan> {
  const held = new Set((await readHolds(repository, machine)).map(({ point }) => point))
  const damaged = await pointsFoundDamaged(repository, machine)
  return await planPrune(repository, machine, points, { rules, zone, held, damaged, archiveCostBytes })
}

async function assertThere({ repository }: WriteEnvironment, machine: string): Promise<void> {
  if (await hasMachine(repository, machine)) return
  throw new RefpointError('usage', `there is no machine '${machine}' in ${repository.description}`, {
    hint: "'refpoint points' lists the machines that are there.",
    fields: { machine },
  })
}
