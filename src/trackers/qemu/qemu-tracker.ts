import { RefpointError } from '../../model/errors.js'
import type { ReferencePoint } from '../../model/reference-point.js'
import { ownerTag } from '../bitmaps/names.js'
import type { Checkpoint, CheckpointOptions, Owner, StoreInfo, Tracker } from '../tracker.js'
import { instantsOf, planBitmaps, removeBitmaps } from './disk-bitmaps.js'
import { findDisks } from './disks.js'
import { removeAreaFiles } from './fleecing-area.js'
import { type FleecingSettings, findRoom } from './fleecing-room.js'
import { freezeDisks } from './frozen-disks.js'
import { assertNoIothreads } from './iothreads.js'
import { ifRunning, LiveCheckpoint, takeOut } from './live-checkpoint.js'
import { LiveStore } from './live-store.js'
import { describeMachine } from './machine/describe.js'
import { runNames } from './names.js'
import { type Quiesced, whileFrozen } from './guest-freeze.js'
import { nbdSocketPath, removeStaleSockets } from './nbd-socket.js'
import { assertRunsHere } from './runs-here.js'
import { openSession, type Session } from './session.js'
import { tearDown } from './teardown.js'

export interface QemuTrackerOptions {
  /** The unix socket of QEMU's monitor (QMP). */
  readonly qmp: string
  /** The unix socket of the agent inside the guest; undefined: its file systems are not frozen. */
  readonly agent: string | undefined
  /** Names of disks that are not backed up. */
  readonly exclude: readonly string[]
  readonly fleecing: FleecingSettings
  /** What one bit of a dirty bitmap stands for, a power of two; undefined: by the disk's size. */
  readonly granularityBytes: number | undefined
  /** How long to wait for another run on the same machine, in milliseconds. */
  readonly waitMs: number
}

const smallestGranularityBytes = 8192
const anySignal = new AbortController().signal

/**
 * A machine that QEMU runs. Dirty bitmaps in QEMU record what the guest writes; an instant is frozen by copying old data
 * aside before the guest overwrites it, and read over NBD. Linux only.
 */
export function createQemuTracker(options: QemuTrackerOptions): Tracker {
  return new QemuTracker(options)
}

class QemuTracker implements Tracker {
  readonly capabilities
  readonly #options: QemuTrackerOptions
  readonly #live = new Set<LiveCheckpoint>()

  constructor(options: QemuTrackerOptions) {
    this.#options = options
    this.capabilities = {
      granularityBytes: options.granularityBytes ?? smallestGranularityBytes,
      consistency: options.agent === undefined ? (['crash'] as const) : (['filesystem', 'crash'] as const),
      modes: ['live'] as const,
    }
  }

  async stores(): Promise<readonly StoreInfo[]> {
    await using session = await this.#open(anySignal)
    const { disks } = await findDisks(session, this.#options.exclude)
    return disks.map(({ name, sizeBytes }) => ({ name, sizeBytes, logicalBlockBytes: 512 }))
  }

  async checkpoint({ owner, previous, signal }: CheckpointOptions): Promise<Checkpoint> {
    signal.throwIfAborted()
    const session = await this.#open(signal)
    try {
      return await this.#freeze(session, owner, previous, signal)
    } catch (error) {
      await session[Symbol.asyncDispose]()
      await removeStaleSockets()
      throw error
    }
  }

  async release(committed: ReferencePoint, owner: Owner): Promise<void> {
    const tag = ownerTag(owner)
    for (const checkpoint of this.#live) {
      await ifRunning(checkpoint.session, (monitor) => removeBitmaps(monitor, tag, instantsOf(committed)))
      return
    }
    await using session = await this.#openIfRunning()
    if (session !== undefined) await removeBitmaps(session.monitor, tag, instantsOf(committed))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const checkpoint of [...this.#live]) await checkpoint[Symbol.asyncDispose]()
  }

  #open(signal: AbortSignal): Promise<Session> {
    const { qmp, waitMs } = this.#options
    return openSession({ qmp, waitMs, signal })
  }

  /** A machine that has ended holds nothing that could be released; what its images hold, the next run cleans. */
  async #openIfRunning(): Promise<Session | undefined> {
    try {
      return await this.#open(anySignal)
    } catch (error) {
      if (error instanceof RefpointError && error.code === 'tracker') return undefined
      throw error
    }
  }

  async #freeze(
    session: Session,
    owner: Owner,
    previous: ReferencePoint | undefined,
    signal: AbortSignal,
  ): Promise<Checkpoint> {
    const { agent, exclude, fleecing, granularityBytes } = this.#options
    const { monitor, qemu } = session
    const names = runNames(owner)
    const tag = ownerTag(owner)
    const { prefix } = names
    await assertRunsHere(monitor)
    const leftovers = await tearDown(monitor, { prefix, tag, qemu })
    await removeBitmaps(monitor, tag, instantsOf(previous))
    const { disks, warnings } = await findDisks(session, exclude)
    await assertNoIothreads(monitor, disks)
    const described = await describeMachine(monitor.client, this.#options.qmp)
    const room = await findRoom(fleecing, disks, qemu)
    const { folder } = room
    await removeAreaFiles(folder, prefix)
    const planned = planBitmaps(disks, tag, previous, granularityBytes)
    try {
      let quiesced: Quiesced = { consistency: 'crash', problem: undefined }
      const time = await freezeDisks({
        monitor,
        qemu,
        names,
        room,
        disks: planned,
        signal,
        quiesced: async (instant) => {
          if (agent === undefined) await instant()
          else quiesced = await whileFrozen(agent, instant)
        },
      })
      const own = await described.copy(new Map(disks.map(({ device, name }) => [device, name])), time)
      signal.throwIfAborted()
      const stores = planned.map(
        (disk, index) =>
          new LiveStore({
            planned: disk,
            tag,
            socket: nbdSocketPath(qemu),
            exportName: names.of(index, 'snap'),
            below: names.of(index, 'back'),
            refusalHint: broken(folder, room.capBytes[index] ?? 0),
          }),
      )
      const checkpoint = new LiveCheckpoint({
        session,
        prefix,
        tag,
        folder,
        time,
        consistency: quiesced.consistency,
        stores,
        files: own.files,
        warnings: [
          ...leftovers.warnings,
          ...warnings,
          ...own.warnings,
          ...aboutConsistency(agent, quiesced, previous),
        ],
        ended: () => this.#live.delete(checkpoint),
      })
      this.#live.add(checkpoint)
      return checkpoint
    } catch (error) {
      // What can't be removed now, the next run removes: what went wrong first is told.
      await takeOut(session, { prefix, tag, folder }).catch(() => {})
      await removeBitmaps(monitor, tag, instantsOf(previous)).catch(() => {})
      throw error
    }
  }
}

function broken(folder: string, capBytes: number): string {
  return (
    `Nothing was committed, and the guest was not touched. Most likely the ${capBytes} bytes for fleecing in ${folder} ` +
    'were full, or that storage took more than a second: give it more room (fleecing: { folder, limit }), or run the ' +
    'backup when the guest writes less.'
  )
}

/** Without an agent it is told once: when the machine's points begin to be no better than a power cut. */
function aboutConsistency(
  agent: string | undefined,
  { problem }: Quiesced,
  previous: ReferencePoint | undefined,
): string[] {
  if (problem !== undefined) return [`the guest's file systems were not frozen (the point is crash consistent): ${problem}`]
  if (agent !== undefined || previous?.consistency === 'crash') return []
  return ['no guest agent is configured (agent: SOCKET): points are crash consistent, as after a power cut']
}
