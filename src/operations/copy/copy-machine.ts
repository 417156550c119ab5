import { randomUUID } from 'node:crypto'
import { RefpointError } from '../../model/errors.js'
import type { PointManifest } from '../../model/manifest.js'
import { commitSlot } from '../../repository/commit.js'
import { openCopiedMachine } from '../../repository/copied-machine.js'
import { encodeJson } from '../../repository/json-object.js'
import { archiveName, archivesFolder, machineRecordName, revisionName } from '../../repository/layout.js'
import { acquireLease, type Lease } from '../../repository/lease.js'
import { type MachineRecord, readMachine } from '../../repository/machine.js'
import { type Manifests, readManifests } from '../../repository/manifests.js'
import { type Pin, whilePinned } from '../../repository/pin.js'
import type { PruneRepository } from '../../repository/repository.js'
import { tidyMachine } from '../../repository/tidy.js'
import { locateArchive } from '../chain-reader.js'
import { foldManifest } from '../prune/fold-manifest.js'
import { copyArchive } from './copy-archive.js'
import { type CopyPlan, planCopy } from './plan-copy.js'

export interface CopyEnvironment {
  readonly from: { readonly repository: PruneRepository; readonly repositoryId: string }
  readonly to: { readonly repository: PruneRepository; readonly repositoryId: string }
  readonly agent: string
  /** The command that runs, for whoever finds the machine locked. */
  readonly command: string
  /** How long the pin on what is copied outlives its last renewal, in milliseconds; a minute when undefined. */
  readonly ttlMs?: number | undefined
}

export interface CopyRequest {
  readonly machine: string
  /** Which of the source's points are to be in the copy. */
  readonly choose: (points: readonly PointManifest[]) => ReadonlySet<number>
}

export interface CopyOptions {
  readonly signal: AbortSignal
  readonly onTotal?: (bytes: number) => void
  readonly onBytes?: (bytes: number) => void
  readonly onCopied?: (point: number, bytes: number) => void
  readonly onDamage?: (damage: CopyDamage) => void
}

/** Something of the source that is damaged. What the copy has of it already is not touched. */
export interface CopyDamage {
  readonly machine: string
  readonly point: number | null
  readonly object: string
  readonly what: string
}

export interface CopyReport {
  readonly machine: string
  /** Points that were copied now. */
  readonly copied: readonly number[]
  readonly copiedBytes: number
  /** Chosen points that were there. */
  readonly there: readonly number[]
  readonly damage: readonly CopyDamage[]
  /** Chosen points that are not in the copy, because they or what they build on is damaged or missing. */
  readonly notCopied: readonly number[]
}

/** What may be lost, and done again, when a copy is killed: points are committed in groups of about so much. */
const GROUP_BYTES = 256 * 1024 * 1024
const GROUP_POINTS = 250
/** Between two groups another run may have taken the copy's lease. */
const WAIT_MS = 60_000

/**
 * Brings the points of one machine into another repository, only what is missing there, each with its number. The copy
 * is a history of its own, in which a group of points appears as a prune does: archives and manifests are written first
 * and count for nothing; then one slot is claimed with a fold that names them all. So it can be killed at any
 * instruction, can be pruned by rules of its own, and is fenced by leases of its own.
 *
 * Damage of the source is reported, not thrown: the rest is copied, and the next run finds it again.
 * @throws RefpointError `damaged` when the copy has another point of a number, `locked`, `config`, `io`.
 */
export async function copyMachine(
  environment: CopyEnvironment,
  request: CopyRequest,
  options: CopyOptions,
): Promise<CopyReport> {
  const { from, to, command, ttlMs } = environment
  if (from.repositoryId === to.repositoryId) throw sameRepository(to.repository)
  return await whilePinned(from.repository, request.machine, { command, ttlMs }, async (pin) => {
    return await new CopyRun(environment, request, options, pin).run()
  })
}

/** The copy as it is at one time. */
interface There {
  readonly history: Manifests
  readonly withoutArchive: ReadonlySet<number>
}

class CopyRun {
  readonly #environment: CopyEnvironment
  readonly #request: CopyRequest
  readonly #options: CopyOptions
  readonly #pin: Pin
  readonly #copied: number[] = []
  readonly #damage: CopyDamage[] = []
  /** Points of the source that can't be copied. */
  readonly #unusable = new Set<number>()
  #copiedBytes = 0
  #toldTotal = false

  constructor(environment: CopyEnvironment, request: CopyRequest, options: CopyOptions, pin: Pin) {
    this.#environment = environment
    this.#request = request
    this.#options = options
    this.#pin = pin
  }

  async run(): Promise<CopyReport> {
    const { from, to, command } = this.#environment
    const { machine, choose } = this.#request
    const source = await readManifests(from.repository, machine)
    for (const { point, object, message } of source.problems) {
      this.#tellDamage({ machine, point: point ?? null, object, what: message })
    }
    const record = await openCopiedMachine(to.repository, await originOf(from.repository, machine), from.repositoryId)
    assertBelow(record, source.points, to.repository)
    const chosen = choose(source.points)
    let there: There | undefined
    for (;;) {
      await using lease = await acquireLease(to.repository, machine, {
        command,
        signal: this.#options.signal,
        waitMs: there === undefined ? 0 : WAIT_MS,
      })
      const signal = AbortSignal.any([this.#options.signal, lease.lost])
      // Where nobody claimed a slot in between, nothing has changed.
      if (there?.history.nextSlot !== lease.slot) there = await this.#look(record, lease, signal)
      const plan = this.#plan(source.points, chosen, there)
      const group = await this.#copyGroup(plan, lease, signal)
      if (group.length > 0) {
        there = await this.#commit(group, there, lease, signal)
        continue
      }
      const rest = this.#plan(source.points, chosen, there)
      if (rest.copy.length > 0) continue
      const before = new Set(this.#copied)
      return {
        machine,
        copied: this.#copied,
        copiedBytes: this.#copiedBytes,
        there: rest.there.filter((point) => !before.has(point)),
        damage: this.#damage,
        notCopied: rest.blocked.map(({ point }) => point),
      }
    }
  }

  #plan(source: readonly PointManifest[], chosen: ReadonlySet<number>, { history, withoutArchive }: There): CopyPlan {
    const plan = planCopy({
      source,
      chosen,
      there: history.points,
      withoutArchive,
      prunedThere: history.fold?.dropped ?? [],
      damaged: this.#unusable,
    })
    if (!this.#toldTotal) this.#options.onTotal?.(plan.copy.reduce((sum, { archive }) => sum + archive.bytes, 0))
    this.#toldTotal = true
    return plan
  }

  /** What the copy has, after cleaning up what killed runs left in it. */
  async #look({ firstSlot }: MachineRecord, lease: Lease, signal: AbortSignal): Promise<There> {
    const { repository } = this.#environment.to
    const { machine } = this.#request
    // Looked at under the lease: it may have been adopted while this run waited.
    if ((await readMachine(repository, machine))?.copyOf === null) throw adopted(machine, repository)
    const { manifests } = await tidyMachine(repository, machine, lease, { watch: false, signal })
    // A point's manifest that is lost is written anew; what says which points count must be there.
    const lost = manifests.problems.find(({ point }) => point !== undefined && point >= firstSlot)
    if (lost !== undefined) {
      throw new RefpointError(
        'damaged',
        `the copy of machine '${machine}' in ${repository.description} can't be gone on with: ${lost.message}`,
        {
          hint: `Nothing was copied. 'refpoint verify ${machine} --repository …' tells all that is damaged there.`,
          fields: { machine, object: lost.object },
        },
      )
    }
    const sizes = new Map<string, number>()
    for await (const { name, bytes } of repository.list(archivesFolder(machine))) sizes.set(name, bytes)
    const without = manifests.points.filter(({ archive }) => sizes.get(archive.name) !== archive.bytes)
    return { history: manifests, withoutArchive: new Set(without.map(({ point }) => point)) }
  }

  /** Copies archives of about one group; returns the manifests that they get in the copy. */
  async #copyGroup(plan: CopyPlan, lease: Lease, signal: AbortSignal): Promise<readonly PointManifest[]> {
    const { repository } = this.#environment.to
    const group: PointManifest[] = []
    let bytes = 0
    try {
      for (const point of plan.copy) {
        if (bytes >= GROUP_BYTES || group.length === GROUP_POINTS) break
        signal.throwIfAborted()
        const name = archiveName(point.machine, randomUUID())
        try {
          const from = await locateArchive(this.#environment.from.repository, point)
          const onBytes = (count: number): void => this.#options.onBytes?.(count)
          await copyArchive({ point, from, repository, name, signal, onBytes })
        } catch (error) {
          if (!(error instanceof RefpointError) || error.code !== 'damaged') throw error
          await this.#judge(point, error)
          this.#unusable.add(point.point)
          // What builds on it can't be copied either: the plan is made anew.
          break
        }
        group.push({ ...point, revision: lease.slot, archive: { ...point.archive, name } })
        bytes += point.archive.bytes
      }
      return group
    } catch (error) {
      await this.#discard(group)
      throw error
    }
  }

  /** Tells that a point of the source is damaged, unless it is not. */
  async #judge(point: PointManifest, error: RefpointError): Promise<void> {
    const { machine, archive } = point
    await this.#pin.assertHeld()
    if (!this.#pin.pinned) {
      const now = await readManifests(this.#environment.from.repository, machine)
      if (!now.points.some((known) => known.archive.name === archive.name)) {
        throw new RefpointError('locked', `points of machine '${machine}' were pruned while they were copied`, {
          hint: 'The source can not be written to, so nothing keeps a prune away. What was copied stays: run the copy again.',
          fields: { machine, point: point.point },
        })
      }
    }
    this.#tellDamage({ machine, point: point.point, object: archive.name, what: error.message })
  }

  /** Makes a group of points appear in the copy, all at once. */
  async #commit(
    group: readonly PointManifest[],
    { history, withoutArchive }: There,
    lease: Lease,
    signal: AbortSignal,
  ): Promise<There> {
    const { to, agent } = this.#environment
    const { repository } = to
    const fold = foldManifest({ slot: lease.slot, agent, history, dropped: [], revisions: group })
    try {
      for (const manifest of group) {
        const object = revisionName(manifest.machine, manifest.point, lease.slot)
        if ((await repository.claim(object, encodeJson(manifest))) === 'exists') throw leftOver(repository, object)
      }
      signal.throwIfAborted()
      await lease.assertHeld()
      await commitSlot(repository, fold)
    } catch (error) {
      // Whether the slot is ours is not known: the next run finds out, and tidies up what does not count.
      if (!(error instanceof RefpointError && error.code === 'commit-unknown')) await this.#discard(group)
      throw error
    }
    for (const { point, archive } of group) {
      this.#copied.push(point)
      this.#copiedBytes += archive.bytes
      this.#options.onCopied?.(point, archive.bytes)
    }
    const replaced = new Set(group.map(({ point }) => point))
    const points = [...history.points.filter(({ point }) => !replaced.has(point)), ...group]
    return {
      history: { ...history, fold, points: points.sort((a, b) => a.point - b.point), nextSlot: lease.slot + 1 },
      withoutArchive: new Set([...withoutArchive].filter((point) => !replaced.has(point))),
    }
  }

  /** What this run wrote, and nobody else: its names are used once. What can't be removed now, the next run does. */
  async #discard(group: readonly PointManifest[]): Promise<void> {
    const { repository } = this.#environment.to
    for (const { machine, point, revision = 0, archive } of group) {
      await repository.remove([revisionName(machine, point, revision), archive.name]).catch(() => undefined)
    }
  }

  #tellDamage(damage: CopyDamage): void {
    this.#damage.push(damage)
    this.#options.onDamage?.(damage)
  }
}

async function originOf(repository: PruneRepository, machine: string): Promise<MachineRecord> {
  const record = await readMachine(repository, machine)
  if (record !== undefined) return record
  throw new RefpointError('damaged', `the record of machine '${machine}' is missing: ${machineRecordName(machine)}`, {
    hint: 'Put it back from a copy of the repository. Nothing was copied of this machine.',
    fields: { machine, object: machineRecordName(machine) },
  })
}

/** Numbers of points and those that the copy gives by itself must never meet. */
function assertBelow(record: MachineRecord, points: readonly PointManifest[], to: PruneRepository): void {
  const highest = points.at(-1)?.point ?? 0
  if (highest < record.firstSlot) return
  throw new RefpointError('config', `${to.description} can't hold point #${highest} of machine '${record.name}'`, {
    hint: `It gives numbers from #${record.firstSlot} on itself, since it was made as a copy of another repository. Copy to a new one.`,
    fields: { machine: record.name, point: highest, firstSlot: record.firstSlot },
  })
}

function adopted(machine: string, repository: PruneRepository): RefpointError {
  return new RefpointError('config', `machine '${machine}' in ${repository.description} is where its backups go now, no copy`, {
    hint: 'Nothing more was copied. Copy to another repository.',
    fields: { machine },
  })
}

/** Its name should be ours alone: what is there is of a run whose leftovers could not be removed so far. */
function leftOver(repository: PruneRepository, object: string): RefpointError {
  return new RefpointError('locked', `${object} is left over in ${repository.description} and is still read`, {
    hint: 'Run the copy again when whoever reads the copy now is done.',
    fields: { object },
  })
}

function sameRepository(repository: PruneRepository): RefpointError {
  return new RefpointError('usage', `${repository.description} is the repository that is copied, or a copy of its files`, {
    hint: "Copy to one that was made with 'refpoint init'.",
    fields: { repository: repository.description },
  })
}
