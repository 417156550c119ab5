import { randomUUID } from 'node:crypto'
import { openMachine } from '../../repository/machine.js'
import { commitSlot } from '../../repository/commit.js'
import { acquireLease, type Lease } from '../../repository/lease.js'
import { tidyMachine } from '../../repository/tidy.js'
import { chainLength } from '../../model/chain.js'
import { RefpointError } from '../../model/errors.js'
import { fullDue } from '../../model/full-due.js'
import type { PointManifest, StoreRecord } from '../../model/manifest.js'
import { type BackupPlan, type BackupRequest, planBackup } from '../../model/planner.js'
import type { ReferencePoint } from '../../model/reference-point.js'
import { type Trust, trustOf } from '../../model/trust.js'
import { wholeAt } from '../../model/whole-at.js'
import type { Checkpoint, Tracker } from '../../trackers/tracker.js'
import { ArchiveShelf } from '../chain-reader.js'
import type { WriteEnvironment } from '../environment.js'
import { auditStores, type AuditOutcome } from './audit-stores.js'
import { chooseParent } from './choose-parent.js'
import type { BackupEvent, BackupStep } from './events.js'
import type { RunHooks } from './hooks.js'
import { type Asked, gatherEvidence } from './evidence.js'
import { recallFrom } from './recall.js'
import { type JudgedStore, writePoint } from './write-point.js'

/** One machine to back up. */
export interface BackupMachine {
  readonly name: string
  readonly trackerName: string
  readonly tracker: Tracker
  /** The machine's own configuration files: name in the archive to path. */
  readonly files: Readonly<Record<string, string>>
  readonly level: number
  readonly concurrentStores: number
  readonly audit: { readonly bytes: number; readonly milliseconds: number }
}

export interface BackupOptions {
  readonly request: BackupRequest
  readonly signal: AbortSignal
  readonly onEvent?: (event: BackupEvent) => void
  /** Take over a machine that another host, or another configuration, backed up so far: it was moved. */
  readonly adopt?: boolean
  readonly hooks?: RunHooks | undefined
  /** After how long all is read and stored anew though nobody asks for it; never when undefined. */
  readonly fullEveryMs?: number | undefined
  /** Count the bytes to read before reading them, for a progress bar. */
  readonly countFirst?: boolean
}

export interface BackupReport {
  readonly manifest: PointManifest
  readonly readBytes: number
  /** Stores whose tracker was caught in an untruth, and what was done. The point itself is right. */
  readonly distrusted: readonly string[]
  /** What was found of each store that was compared because its tracker is not believed. */
  readonly judged: readonly JudgedStore[]
  /**
   * What failed after the commit: the tracker was not told, the checkpoint not disposed of, the lease not given back.
   * The point is there to stay, and the next run makes good for it; each was told as a warning.
   */
  readonly unfinished: readonly string[]
  /** Of the machine, this point included. */
  readonly history: {
    readonly points: number
    readonly archivesBytes: number
    /** Archives that this point needs. */
    readonly chainLength: number
  }
}

/**
 * Takes one recovery point of one machine. The order of its steps is what makes a kill or a power cut at any
 * instruction harmless: the archive is durable before its slot is claimed, the slot is claimed before the tracker may
 * forget the reference point before it.
 * @throws RefpointError and leaves the repository and the tracker as if the run had never been, except `commit-unknown`.
 * What fails after the commit is no exception: the point is returned, with `unfinished`.
 */
export async function backupMachine(
  environment: WriteEnvironment,
  machine: BackupMachine,
  options: BackupOptions,
): Promise<BackupReport> {
  const run = new BackupRun(environment, machine, options)
  return await run.run()
}

class BackupRun {
  readonly #environment: WriteEnvironment
  readonly #machine: BackupMachine
  readonly #options: BackupOptions
  readonly #startedAt = new Date()
  readonly #startedMs = performance.now()
  readonly #unfinished: string[] = []
  /** What the machine's history says of the trackers of its stores, by store. */
  #trust: ReadonlyMap<string, Trust> = new Map()
  #committed: number | undefined
  /** Why this point is to be a full though nobody asked for it. */
  #fullDue: string | undefined

  constructor(environment: WriteEnvironment, machine: BackupMachine, options: BackupOptions) {
    this.#environment = environment
    this.#machine = machine
    this.#options = options
  }

  async run(): Promise<BackupReport> {
    const { repository } = this.#environment
    const { name } = this.#machine
    const { uuid } = await openMachine(repository, name, {
      create: true,
      adopt: this.#options.adopt === true,
    })
    const lease = await acquireLease(repository, name, {
      command: this.#environment.command,
      ttlMs: this.#environment.ttlMs,
      signal: this.#options.signal,
    })
    const report = await this.#ending(
      'giving back the lease',
      () => lease.release(),
      async () => {
        const signal = AbortSignal.any([this.#options.signal, lease.lost])
        this.#step('locked')
        return await this.#hooked(signal, () => this.#leased(lease, uuid, signal))
      },
    )
    this.#step('disposed')
    return { ...report, unfinished: this.#unfinished }
  }

  /**
   * Does something, and ends it whatever happened. What it returns is a committed point, which an end that fails does
   * not undo; and where it failed, its own failure is the one to tell. So an end that fails is a warning.
   */
  async #ending<Result>(what: string, end: () => PromiseLike<void>, body: () => Promise<Result>): Promise<Result> {
    try {
      return await body()
    } finally {
      await this.#afterwards(what, end)
    }
  }

  /** Runs the hooks around a run: `after` runs always, and is told how it went. */
  async #hooked(signal: AbortSignal, body: () => Promise<BackupReport>): Promise<BackupReport> {
    const { hooks } = this.#options
    if (hooks === undefined) return await body()
    let error: unknown
    try {
      await hooks.before(signal)
      return await body()
    } catch (failure) {
      error = failure
      throw failure
    } finally {
      const result = error === undefined ? 'done' : 'failed'
      await this.#afterwards("the hook 'after'", () => hooks.after({ result, point: this.#committed ?? null, error }))
    }
  }

  async #afterwards(what: string, action: () => PromiseLike<void>): Promise<void> {
    try {
      await action()
    } catch (error) {
      const done = this.#committed === undefined ? '' : `point #${this.#committed} is committed, but `
      const message = `${done}${what} failed: ${error instanceof Error ? error.message : String(error)}`
      this.#unfinished.push(message)
      this.#warn(message)
    }
  }

  async #leased(lease: Lease, machineUuid: string, signal: AbortSignal): Promise<BackupReport> {
    const { repository, repositoryId } = this.#environment
    const { name, tracker } = this.#machine
    const owner = { repositoryId, machineUuid }
    const { manifests, deferredFor } = await tidyMachine(repository, name, lease, { watch: false, signal })
    const { points, audits, problems } = manifests
    for (const problem of problems) this.#warn(problem.message)
    for (const why of deferredFor) this.#warn(`what an earlier prune gave up is still there: ${why}`)
    this.#step('cleaned')

    const chosen = await chooseParent(repository, points)
    for (const message of chosen.passedOver) this.#warn(message)
    const previous = chosen.parent === undefined ? undefined : referencePointOf(chosen.parent)
    const bySlot = new Map(points.map((point) => [point.point, point]))
    this.#fullDue = fullDue(chosen.parent, bySlot, this.#options.fullEveryMs, this.#startedAt.getTime())

    const recall = recallFrom(repository, this.#environment.codec, points)
    const checkpoint = await tracker.checkpoint({ owner, previous, recall, signal })
    return await this.#ending(
      'disposing of the checkpoint',
      () => checkpoint[Symbol.asyncDispose](),
      async () => {
        for (const message of checkpoint.warnings) this.#warn(message)
        this.#step('checkpointed')
        const history = [...points, ...audits]
        this.#trust = new Map(checkpoint.stores.map((store) => [store.name, trustOf(history, store.name)]))
        const report = await this.#takeOnWhole(checkpoint, points, chosen.parent, lease, machineUuid, signal)
        await this.#afterwards('letting the tracker forget the point before', async () => {
          await tracker.release(referencePointOf(report.manifest), owner)
          this.#step('released')
        })
        return report
      },
    )
  }

  /** Takes the point on the newest parent whose archives can be read: only their sizes are known before they are. */
  async #takeOnWhole(
    checkpoint: Checkpoint,
    points: readonly PointManifest[],
    newest: PointManifest | undefined,
    lease: Lease,
    machineUuid: string,
    signal: AbortSignal,
  ): Promise<BackupReport> {
    const { request } = this.#options
    let parent = request === 'full' || (request === 'auto' && this.#fullDue !== undefined) ? undefined : newest
    const damaged = new Set<number>()
    for (;;) {
      try {
        return await this.#take(checkpoint, points, parent, lease, machineUuid, signal)
      } catch (error) {
        if (parent === undefined || !isArchiveDamage(error)) throw error
        // A machine must not stay without backups until somebody looks.
        this.#warn(`point #${parent.point} can't be gone on from: ${error.message}`)
        damaged.add(pointOfArchive(points, String(error.fields['archive'])) ?? parent.point)
        parent = (await chooseParent(this.#environment.repository, points, damaged)).parent
      }
    }
  }

  /** Takes the point as an incremental on `parent`, or as a full. Nothing is left of it when it fails. */
  async #take(
    checkpoint: Checkpoint,
    points: readonly PointManifest[],
    parent: PointManifest | undefined,
    lease: Lease,
    machineUuid: string,
    signal: AbortSignal,
  ): Promise<BackupReport> {
    const asked = await gatherEvidence(checkpoint.stores, parent, this.#trust, signal)
    const sources = asked.map(({ sourceKey }) => sourceKey)
    return await this.#ending(
      "closing the disks' readers",
      () => this.#environment.pool.everywhere('closeSources', sources),
      () => this.#takeAsked(checkpoint, asked, points, parent, lease, machineUuid, signal),
    )
  }

  async #takeAsked(
    checkpoint: Checkpoint,
    asked: readonly Asked[],
    points: readonly PointManifest[],
    parent: PointManifest | undefined,
    lease: Lease,
    machineUuid: string,
    signal: AbortSignal,
  ): Promise<BackupReport> {
    const { repository, codec } = this.#environment
    await using shelf = new ArchiveShelf(repository, codec)
    const first = this.#plan(asked, parent, points.length > 0 ? 'no earlier point is whole' : undefined)
    const audit = await auditStores({
      environment: this.#environment,
      machine: this.#machine,
      asked,
      plan: first,
      points,
      parent,
      trust: this.#trust,
      shelf,
      signal,
    })
    const { plan } = audit
    this.#options.onEvent?.({ type: 'plan', machine: this.#machine.name, parent: plan.parent, stores: plan.stores })
    this.#step('planned')
    const committed = await this.#write(checkpoint, asked, plan, audit, points, lease, machineUuid, shelf, signal)
    const history = historyWith(points, committed.manifest)
    return { ...committed, unfinished: [], history }
  }

  #plan(asked: readonly Asked[], parent: PointManifest | undefined, parentProblem: string | undefined) {
    const { request } = this.#options
    const plan: BackupPlan = planBackup({
      request,
      parent,
      parentProblem,
      fullDue: this.#fullDue,
      stores: asked.map((store) => store.evidence),
    })
    if (plan.kind === 'refused') {
      throw new RefpointError('usage', `machine '${this.#machine.name}' can't take an incremental: ${plan.reason}`, {
        hint: 'Run the backup without --incremental: it takes what is possible and says why.',
        fields: { machine: this.#machine.name },
      })
    }
    return plan
  }

  async #write(
    checkpoint: Checkpoint,
    asked: readonly Asked[],
    plan: Extract<BackupPlan, { kind: 'point' }>,
    audit: AuditOutcome,
    points: readonly PointManifest[],
    lease: Lease,
    machineUuid: string,
    shelf: ArchiveShelf,
    signal: AbortSignal,
  ): Promise<Omit<BackupReport, 'unfinished' | 'history'>> {
    const { repository, repositoryId, agent } = this.#environment
    // The archive says of itself what its manifest says of it; readers hold the two against each other.
    const identity = {
      format: 1,
      requires: [],
      optional: [],
      agent,
      repositoryId,
      machine: this.#machine.name,
      machineUuid,
      point: lease.slot,
      parent: plan.parent,
      nonce: randomUUID(),
      time: checkpoint.time.toISOString(),
      consistency: checkpoint.consistency,
    } as const
    const written = await writePoint({
      environment: this.#environment,
      machine: this.#machine,
      header: {
        ...identity,
        stores: asked.map(({ store }) => ({
          name: store.name,
          kind: 'disk' as const,
          sizeBytes: store.sizeBytes,
          mode: plan.stores.find((planned) => planned.name === store.name)?.mode ?? 'full',
        })),
      },
      asked,
      machineFiles: checkpoint.files,
      plan,
      audit,
      trust: this.#trust,
      points,
      shelf,
      signal,
      options: this.#options,
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
      tracker: this.#machine.trackerName,
      startedAt: this.#startedAt.toISOString(),
      durationMs: Math.round(performance.now() - this.#startedMs),
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
        await repository.remove(written.archive.name).catch(() => {})
      }
      throw error
    }
    this.#committed = manifest.point
    this.#step('committed')
    return { manifest, readBytes: written.readBytes, judged: written.judged, distrusted }
  }

  /** Tells what became of the trackers that are not believed; returns what is to be told loudly. */
  #tellTrust(judged: readonly JudgedStore[], stores: readonly StoreRecord[]): readonly string[] {
    const loud: string[] = []
    for (const { store } of judged) {
      const distrust = stores.find(({ name }) => name === store)?.distrust ?? null
      if (distrust === null) {
        const message = `the tracker of store '${store}' named every change this time and is trusted again`
        this.#options.onEvent?.({ type: 'trusted-again', machine: this.#machine.name, store, message })
        continue
      }
      const message =
        `the tracker of store '${store}' ${distrust.what}; the whole store was compared instead, so this point is ` +
        'right. It is compared from now on until the tracker has named every change of a whole store'
      this.#warn(message)
      loud.push(message)
    }
    return loud
  }

  #step(step: BackupStep): void {
    this.#options.onEvent?.({ type: 'step', machine: this.#machine.name, step })
  }

  #warn(message: string): void {
    this.#options.onEvent?.({ type: 'warning', machine: this.#machine.name, message })
  }
}

/** Whether what failed was the reading of an earlier point's archive. */
function isArchiveDamage(error: unknown): error is RefpointError {
  return error instanceof RefpointError && error.code === 'damaged' && 'archive' in error.fields
}

function historyWith(points: readonly PointManifest[], newest: PointManifest): BackupReport['history'] {
  const all = [...points, newest]
  return {
    points: all.length,
    archivesBytes: all.reduce((sum, { archive }) => sum + archive.bytes, 0),
    chainLength: chainLength(newest, new Map(all.map((point) => [point.point, point]))),
  }
}

/** The point that an archive is of; readers name it by its place, of which its name is the end. */
function pointOfArchive(points: readonly PointManifest[], archive: string): number | undefined {
  return points.find((point) => archive === point.archive.name || archive.endsWith(`/${point.archive.name}`))?.point
}

/** What a committed point keeps for the tracker. */
export function referencePointOf(point: PointManifest): ReferencePoint {
  const changeIds: Record<string, string> = {}
  for (const store of point.stores) if (store.changeId !== null) changeIds[store.name] = store.changeId
  return { point: point.point, time: point.time, consistency: point.consistency, changeIds }
}
