import { randomUUID } from 'node:crypto'
import { storeRecord } from '../../model/chain.js'
import { RefpointError } from '../../model/errors.js'
import type { Range } from '../../model/extent.js'
import type { AuditedStore, AuditManifest, PointManifest } from '../../model/manifest.js'
import { sizeChangeRanges } from '../../model/ranges.js'
import { trustOf } from '../../model/trust.js'
import { commitSlot } from '../../repository/commit.js'
import { acquireLease, type Lease } from '../../repository/lease.js'
import { openMachine } from '../../repository/machine.js'
import { readManifests } from '../../repository/manifests.js'
import { type BackupMachine, referencePointOf } from '../backup/backup.js'
import { chooseParent } from '../backup/choose-parent.js'
import { type Asked, gatherEvidence } from '../backup/evidence.js'
import { ParentDigests } from '../backup/parent-digests.js'
import { recallFrom } from '../backup/recall.js'
import { ArchiveShelf, StoreChain } from '../chain-reader.js'
import type { WriteEnvironment } from '../environment.js'
import { type AuditBudget, auditStore } from './audit-store.js'

export interface AuditOptions {
  /** Every block that the trackers call unchanged, whatever the budget; else the rotation goes on within it. */
  readonly whole: boolean
  readonly signal: AbortSignal
  readonly onWarning?: (message: string) => void
  /** Bytes that will be read at most. */
  readonly onTotal?: (bytes: number) => void
  readonly onBytes?: (bytes: number) => void
}

/** What an audit found out about one store. */
export type AuditFinding =
  | (AuditedStore & {
      readonly kind: 'audited'
      readonly readBytes: number
      /** Where blocks were missed, in bytes: the first 1,000 ranges. */
      readonly ranges: readonly Range[]
      /** Whether the tracker was not trusted before, and is now. */
      readonly trustedAgain: boolean
    })
  /** Its tracker can't say what changed, so there is nothing to hold against it: the next backup compares. */
  | { readonly kind: 'not-tracked'; readonly name: string; readonly why: string }

export interface AuditReport {
  readonly manifest: AuditManifest
  readonly stores: readonly AuditFinding[]
}

/**
 * Holds the live source at a checkpoint against the newest point's digests, wherever the tracker says that nothing
 * changed since. Takes no point and releases nothing: to the tracker it is a backup that failed, and to the repository a
 * run like any other, under the machine's lease. What it found takes a slot of the machine's history, so that the next
 * run, on whatever host, knows which trackers are not to be believed.
 * @throws RefpointError `usage` when there is no point, or nothing tracks any store; `locked`, `tracker`, `damaged`.
 */
export async function auditMachine(
  environment: WriteEnvironment,
  machine: BackupMachine,
  options: AuditOptions,
): Promise<AuditReport> {
  const { repository } = environment
  const { uuid } = await openMachine(repository, machine.name, { create: false })
  await using lease = await acquireLease(repository, machine.name, {
    command: environment.command,
    ttlMs: environment.ttlMs,
    signal: options.signal,
  })
  const signal = AbortSignal.any([options.signal, lease.lost])
  return await new AuditRun(environment, machine, { ...options, signal }, lease, uuid).run()
}

class AuditRun {
  readonly #environment: WriteEnvironment
  readonly #machine: BackupMachine
  readonly #options: AuditOptions
  readonly #lease: Lease
  readonly #machineUuid: string
  readonly #startedMs = performance.now()

  constructor(
    environment: WriteEnvironment,
    machine: BackupMachine,
    options: AuditOptions,
    lease: Lease,
    machineUuid: string,
  ) {
    this.#environment = environment
    this.#machine = machine
    this.#options = options
    this.#lease = lease
    this.#machineUuid = machineUuid
  }

  async run(): Promise<AuditReport> {
    const { repository, repositoryId, codec, pool } = this.#environment
    const { name, tracker } = this.#machine
    const { signal } = this.#options
    const { points, audits, problems } = await readManifests(repository, name)
    for (const problem of problems) this.#warn(problem.message)
    const { parent, passedOver } = await chooseParent(repository, points)
    for (const message of passedOver) this.#warn(message)
    if (parent === undefined) throw nothingToAuditAgainst(name, points.length > 0)

    const owner = { repositoryId, machineUuid: this.#machineUuid }
    const recall = recallFrom(repository, codec, points)
    await using checkpoint = await tracker.checkpoint({ owner, previous: referencePointOf(parent), recall, signal })
    for (const message of checkpoint.warnings) this.#warn(message)
    const history = [...points, ...audits]
    const asked = await gatherEvidence(checkpoint.stores, parent, new Map(), signal)
    const stores: AuditFinding[] = []
    try {
      await using shelf = new ArchiveShelf(repository, codec)
      const tracked = asked.filter((entry) => entry.changed !== undefined)
      if (tracked.length === 0) throw nothingTracks(name, asked, parent)
      this.#tellTotal(tracked)
      const until = performance.now() + this.#machine.audit.milliseconds
      let bytesLeft = this.#machine.audit.bytes
      for (const entry of asked) {
        if (entry.changed === undefined) {
          stores.push({ kind: 'not-tracked', name: entry.store.name, why: whyNot(entry) })
          continue
        }
        const left = tracked.length - stores.filter(({ kind }) => kind === 'audited').length
        const budget = { bytes: bytesLeft / left, milliseconds: (until - performance.now()) / left }
        const found = await this.#store(entry, entry.changed, parent, points, history, shelf, budget)
        bytesLeft = Math.max(0, bytesLeft - found.readBytes)
        stores.push(found)
      }
      await checkpoint.assertStable()
    } finally {
      await pool.everywhere('closeSources', asked.map(({ sourceKey }) => sourceKey))
    }
    const manifest: AuditManifest = {
      format: 1,
      requires: [],
      type: 'audit',
      repositoryId,
      machine: name,
      machineUuid: this.#machineUuid,
      point: this.#lease.slot,
      against: parent.point,
      nonce: randomUUID(),
      tracker: this.#machine.trackerName,
      time: checkpoint.time.toISOString(),
      durationMs: Math.round(performance.now() - this.#startedMs),
      stores: stores.flatMap((store) => (store.kind === 'audited' ? [recordOf(store)] : [])),
      agent: this.#environment.agent,
    }
    signal.throwIfAborted()
    await this.#lease.assertHeld()
    await commitSlot(repository, manifest)
    return { manifest, stores }
  }

  async #store(
    { store, sourceKey }: Asked,
    changed: () => Promise<AsyncIterable<readonly Range[]>>,
    parent: PointManifest,
    points: readonly PointManifest[],
    history: readonly (PointManifest | AuditManifest)[],
    shelf: ArchiveShelf,
    budget: AuditBudget,
  ): Promise<Extract<AuditFinding, { kind: 'audited' }>> {
    const { name, sizeBytes } = store
    const before = trustOf(history, name)
    const bySlot = new Map(points.map((point) => [point.point, point]))
    const result = await auditStore({
      store,
      sourceKey,
      changed,
      parent: new ParentDigests(
        () => StoreChain.open(shelf, parent, name, bySlot),
        sizeChangeRanges(storeRecord(parent, name)?.sizeBytes ?? 0, sizeBytes),
      ),
      from: before.auditedTo,
      budget: this.#options.whole ? { bytes: Infinity, milliseconds: Infinity } : budget,
      pool: this.#environment.pool,
      signal: this.#options.signal,
      ...(this.#options.onBytes === undefined ? {} : { onRead: this.#options.onBytes }),
    })
    const { missed, whole, checkedBlocks, readBytes, next } = result
    const caught = missed.count > 0
    const proven = whole && !caught
    return {
      kind: 'audited',
      name,
      auditedTo: next,
      distrust: caught
        ? { since: this.#lease.slot, what: missed.describe(sizeBytes) }
        : proven
          ? null
          : before.distrust,
      checkedBlocks,
      missedBlocks: missed.count,
      whole,
      readBytes,
      ranges: missed.ranges(sizeBytes),
      trustedAgain: proven && before.distrust !== null,
    }
  }

  #tellTotal(tracked: readonly Asked[]): void {
    const all = tracked.reduce((sum, { store }) => sum + store.sizeBytes, 0)
    this.#options.onTotal?.(this.#options.whole ? all : Math.min(all, this.#machine.audit.bytes))
  }

  #warn(message: string): void {
    this.#options.onWarning?.(message)
  }
}

function recordOf(found: AuditedStore): AuditedStore {
  const { name, auditedTo, distrust, checkedBlocks, missedBlocks, whole } = found
  return { name, auditedTo, distrust, checkedBlocks, missedBlocks, whole }
}

function whyNot({ evidence: { tracked, keepsChangeIds } }: Asked): string {
  if (tracked !== undefined && tracked !== 'yes') return tracked.explanation
  return keepsChangeIds ? 'nothing tracked its changes when the point was taken' : 'nothing tracks its changes'
}

function nothingToAuditAgainst(machine: string, hasPoints: boolean): RefpointError {
  return hasPoints
    ? new RefpointError('damaged', `no point of machine '${machine}' is whole: there is nothing to audit against`, {
        hint: `'refpoint verify ${machine}' tells what is damaged; take a --full.`,
        fields: { machine },
      })
    : new RefpointError('usage', `machine '${machine}' has no points: there is nothing to audit against`, {
        hint: `Take one: refpoint backup ${machine}`,
        fields: { machine },
      })
}

function nothingTracks(machine: string, asked: readonly Asked[], parent: PointManifest): RefpointError {
  const why = asked.map((entry) => `${entry.store.name}: ${whyNot(entry)}`).join('; ')
  return new RefpointError(
    'usage',
    `no tracker says what changed on machine '${machine}' since point #${parent.point}, so there is none to audit (${why})`,
    {
      hint: "Its backups compare whole disks, which is more than an audit. 'refpoint verify' proves what is stored.",
      fields: { machine, point: parent.point },
    },
  )
}
