import { openMachine } from '../../repository/machine.js'
import { acquireLease, type Lease } from '../../repository/lease.js'
import { tidyMachine } from '../../repository/tidy.js'
import { RefpointError } from '../../model/errors.js'
import { fullDue } from '../../model/full-due.js'
import type { PointManifest } from '../../model/manifest.js'
import type { BackupRequest } from '../../model/planner.js'
import type { ReferencePoint } from '../../model/reference-point.js'
import { trustOf } from '../../model/trust.js'
import type { Tracker } from '../../trackers/tracker.js'
import type { WriteEnvironment } from '../environment.js'
import { chooseParent } from './choose-parent.js'
import type { BackupEvent, BackupStep } from './events.js'
import type { RunHooks } from './hooks.js'
import { recallFrom } from './recall.js'
import { type Taking, takePoint } from './take-point.js'
import type { JudgedStore } from './write-point.js'

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
  readonly #started = { at: new Date(), ms: performance.now() }
  readonly #unfinished: string[] = []
  #committed: number | undefined

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
    const { manifests, deferredFor, refused } = await tidyMachine(repository, name, lease, { watch: false, signal })
    const { points, audits, problems } = manifests
    for (const problem of problems) this.#warn(problem.message)
    if (refused) this.#warn(`what nobody needs any more can't be removed: ${deferredFor.join('; ')}`)
    this.#step('cleaned')

    const chosen = await chooseParent(repository, points)
    for (const message of chosen.passedOver) this.#warn(message)
    const previous = chosen.parent === undefined ? undefined : referencePointOf(chosen.parent)
    const bySlot = new Map(points.map((point) => [point.point, point]))

    const recall = recallFrom(repository, this.#environment.codec, points)
    const checkpoint = await tracker.checkpoint({ owner, previous, recall, signal })
    return await this.#ending(
      'disposing of the checkpoint',
      () => checkpoint[Symbol.asyncDispose](),
      async () => {
        for (const message of checkpoint.warnings) this.#warn(message)
        this.#step('checkpointed')
        const history = [...points, ...audits]
        const taking: Taking = {
          environment: this.#environment,
          machine: this.#machine,
          options: this.#options,
          started: this.#started,
          checkpoint,
          points,
          trust: new Map(checkpoint.stores.map((store) => [store.name, trustOf(history, store.name)])),
          fullDue: fullDue(chosen.parent, bySlot, this.#options.fullEveryMs, this.#started.at.getTime()),
          lease,
          machineUuid,
          signal,
          onCommitted: (point) => (this.#committed = point),
          afterwards: (what, action) => this.#afterwards(what, action),
        }
        const report = await this.#takeOnWhole(taking, chosen.parent)
        await this.#afterwards('letting the tracker forget the point before', async () => {
          await tracker.release(referencePointOf(report.manifest), owner)
          this.#step('released')
        })
        return report
      },
    )
  }

  /** Takes the point on the newest parent whose archives can be read: only their sizes are known before they are. */
  async #takeOnWhole(taking: Taking, newest: PointManifest | undefined): Promise<BackupReport> {
    const { lease, points, fullDue: due } = taking
    const { request } = this.#options
    let parent = request === 'full' || (request === 'auto' && due !== undefined) ? undefined : newest
    const damaged = new Set<number>()
    for (;;) {
      try {
        return { ...(await takePoint(taking, parent)), unfinished: [] }
      } catch (error) {
        if (parent === undefined || !isArchiveDamage(error)) throw error
        // Who slept and was taken over may find archives gone, and nothing is damaged by that.
        await lease.assertHeld()
        // A machine must not stay without backups until somebody looks.
        this.#warn(`point #${parent.point} can't be gone on from: ${error.message}`)
        damaged.add(pointOfArchive(points, String(error.fields['archive'])) ?? parent.point)
        parent = (await chooseParent(this.#environment.repository, points, damaged)).parent
      }
    }
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
