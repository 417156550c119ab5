import { randomUUID } from 'node:crypto'
import { PARTLY_STORED } from '../../archive/format.js'
import { chainLength } from '../../model/chain.js'
import { RefpointError } from '../../model/errors.js'
import type { PointManifest, StoreRecord } from '../../model/manifest.js'
import { type BackupPlan, planBackup } from '../../model/planner.js'
import type { Trust } from '../../model/trust.js'
import { wholeAt } from '../../model/whole-at.js'
import { commitSlot } from '../../repository/commit.js'
import type { Lease } from '../../repository/lease.js'
import type { Checkpoint } from '../../trackers/tracker.js'
import { ArchiveShelf } from '../chain-reader.js'
import type { WriteEnvironment } from '../environment.js'
import { type AuditOutcome, auditStores } from './audit-stores.js'
import type { BackupMachine, BackupOptions, BackupReport } from './backup.js'
import type { BackupStep } from './events.js'
import { type Asked, gatherEvidence } from './evidence.js'
import { type JudgedStore, writePoint } from './write-point.js'

/** What is known when a checkpoint is there and its point is to be taken. */
export interface Taking {
  readonly environment: WriteEnvironment
  readonly machine: BackupMachine
  readonly options: BackupOptions
  /** When the run began, by the host's clock and by `performance.now()`. */
  readonly started: { readonly at: Date; readonly ms: number }
  readonly checkpoint: Checkpoint
  /** The machine's points, ascending. */
  readonly points: readonly PointManifest[]
  /** What the machine's history says of the trackers of its stores, by store. */
  readonly trust: ReadonlyMap<string, Trust>
  /** Why this point is to be a full though nobody asked for it. */
  readonly fullDue: string | undefined
  readonly lease: Lease
  readonly machineUuid: string
  readonly signal: AbortSignal
  /** Called as soon as the point is there to stay. */
  readonly onCommitted: (point: number) => void
  /** Does what a run ends with; what fails in it is told and does not undo the point. */
  readonly afterwards: (what: string, action: () => PromiseLike<void>) => Promise<void>
}

/**
 * Takes the point as an incremental on `parent`, or as a full. Nothing is left of it when it fails.
 * @throws RefpointError, with the field `archive` where an earlier point's archive can't be read.
 */
export async function takePoint(
  taking: Taking,
  parent: PointManifest | undefined,
): Promise<Omit<BackupReport, 'unfinished'>> {
  const { environment, checkpoint, trust, signal, afterwards } = taking
  const asked = await gatherEvidence(checkpoint.stores, parent, trust, signal)
  const sources = asked.map(({ sourceKey }) => sourceKey)
  try {
    return await new PointTaker(taking, asked, parent).take()
  } finally {
    await afterwards("closing the disks' readers", () => environment.pool.everywhere('closeSources', sources))
  }
}

class PointTaker {
  readonly #taking: Taking
  readonly #asked: readonly Asked[]
  readonly #parent: PointManifest | undefined

  constructor(taking: Taking, asked: readonly Asked[], parent: PointManifest | undefined) {
    this.#taking = taking
    this.#asked = asked
    this.#parent = parent
  }

  async take(): Promise<Omit<BackupReport, 'unfinished'>> {
    const { environment, machine, options, points, trust, signal } = this.#taking
    await using shelf = new ArchiveShelf(environment.repository, environment.codec)
    const audit = await auditStores({
      environment,
      machine,
      asked: this.#asked,
      plan: this.#plan(),
      points,
      parent: this.#parent,
      trust,
      shelf,
      signal,
    })
    const { plan } = audit
    options.onEvent?.({ type: 'plan', machine: machine.name, parent: plan.parent, stores: plan.stores })
    this.#step('planned')
    const committed = await this.#write(plan, audit, shelf)
    return { ...committed, history: historyWith(points, committed.manifest) }
  }

  #plan() {
    const { machine, options, points, fullDue } = this.#taking
    const plan: BackupPlan = planBackup({
      request: options.request,
      parent: this.#parent,
      parentProblem: points.length > 0 ? 'no earlier point is whole' : undefined,
      fullDue,
      stores: this.#asked.map((store) => store.evidence),
    })
    if (plan.kind === 'refused') {
      throw new RefpointError('usage', `machine '${machine.name}' can't take an incremental: ${plan.reason}`, {
        hint: 'Run the backup without --incremental: it takes what is possible and says why.',
        fields: { machine: machine.name },
      })
    }
    return plan
  }

  async #write(
    plan: Extract<BackupPlan, { kind: 'point' }>,
    audit: AuditOutcome,
    shelf: ArchiveShelf,
  ): Promise<Omit<BackupReport, 'unfinished' | 'history'>> {
    const { environment, machine, options, started, checkpoint, points, trust, lease, signal } = this.#taking
    const { repository, repositoryId, agent } = environment
    // The archive says of itself what its manifest says of it; readers hold the two against each other.
    const identity = {
      format: 1,
      requires: [],
      optional: [],
      agent,
      repositoryId,
      machine: machine.name,
      machineUuid: this.#taking.machineUuid,
      point: lease.slot,
      parent: plan.parent,
      nonce: randomUUID(),
      time: checkpoint.time.toISOString(),
      consistency: checkpoint.consistency,
    } as const
    const written = await writePoint({
      environment,
      machine,
      header: {
        ...identity,
        // Known before anything is read: only what a tracker named is stored in parts.
        requires: plan.stores.some(({ mode }) => mode === 'tracked') ? [PARTLY_STORED] : [],
        stores: this.#asked.map(({ store }) => ({
          name: store.name,
          kind: 'disk' as const,
          sizeBytes: store.sizeBytes,
          mode: plan.stores.find((planned) => planned.name === store.name)?.mode ?? 'full',
        })),
      },
      asked: this.#asked,
      machineFiles: checkpoint.files,
      plan,
      audit,
      trust,
      points,
      shelf,
      signal,
      options,
      onStreamed: async () => {
        await checkpoint.assertStable()
        this.#step('streamed')
      },
    })
    this.#step('archived')
    const distrusted = this.#tellTrust(written.judged, written.stores)
    const bySlot = new Map(points.map((point) => [point.point, point]))
    const parent = plan.parent === null ? undefined : bySlot.get(plan.parent)
    const manifest: PointManifest = {
      ...identity,
      type: 'point',
      wholeAt: parent === undefined ? identity.time : wholeAt(parent, bySlot),
      tracker: machine.trackerName,
      startedAt: started.at.toISOString(),
      durationMs: Math.round(performance.now() - started.ms),
      stores: written.stores,
      archive: written.archive,
      warnings: [...checkpoint.warnings, ...distrusted],
      signatures: [],
    }
    try {
      signal.throwIfAborted()
      await lease.assertHeld()
      await commitSlot(repository, manifest)
    } catch (error) {
      // Whether the slot is ours is not known: nothing may be removed or released, the next run decides.
      if (!(error instanceof RefpointError && error.code === 'commit-unknown')) {
        await repository.remove([written.archive.name]).catch(() => {})
      }
      throw error
    }
    this.#taking.onCommitted(manifest.point)
    this.#step('committed')
    return { manifest, readBytes: written.readBytes, judged: written.judged, distrusted }
  }

  /** Tells what became of the trackers that are not believed; returns what is to be told loudly. */
  #tellTrust(judged: readonly JudgedStore[], stores: readonly StoreRecord[]): readonly string[] {
    const { machine, options } = this.#taking
    const loud: string[] = []
    for (const { store } of judged) {
      const distrust = stores.find(({ name }) => name === store)?.distrust ?? null
      if (distrust === null) {
        const message = `the tracker of store '${store}' named every change this time and is trusted again`
        options.onEvent?.({ type: 'trusted-again', machine: machine.name, store, message })
        continue
      }
      const message =
        `the tracker of store '${store}' ${distrust.what}; the whole store was compared instead, so this point is ` +
        'right. It is compared from now on until the tracker has named every change of a whole store'
      options.onEvent?.({ type: 'warning', machine: machine.name, message })
      loud.push(message)
    }
    return loud
  }

  #step(step: BackupStep): void {
    this.#taking.options.onEvent?.({ type: 'step', machine: this.#taking.machine.name, step })
  }
}

function historyWith(points: readonly PointManifest[], newest: PointManifest): BackupReport['history'] {
  const all = [...points, newest]
  return {
    points: all.length,
    archivesBytes: all.reduce((sum, { archive }) => sum + archive.bytes, 0),
    chainLength: chainLength(newest, new Map(all.map((point) => [point.point, point]))),
  }
}
