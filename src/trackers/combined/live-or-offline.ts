import { RefpointError } from '../../model/errors.js'
import type { Checkpoint, CheckpointOptions, MachineFile, Tracker } from '../tracker.js'

/** A machine that was found shut down. */
export interface OfflineMachine {
  readonly tracker: Tracker
  /** What is kept of the machine itself, as in points that were taken while it ran. */
  readonly files: readonly MachineFile[]
  readonly warnings: readonly string[]
}

export interface LiveOrOfflineOptions {
  readonly live: Tracker
  /** Whether an error of `live` says that the machine does not run. */
  readonly isOff: (error: unknown) => boolean
  /** Finds the disks of the machine that does not run. @throws RefpointError `tracker` when nothing knows them. */
  readonly findOffline: (recall: CheckpointOptions['recall']) => Promise<OfflineMachine>
}

/**
 * A machine that is backed up whether it runs or not. Both trackers give the same change IDs, so that each goes on where
 * the other left off.
 */
export function liveOrOffline({ live, isOff, findOffline }: LiveOrOfflineOptions): Tracker {
  /** Which one took the last checkpoint, and so keeps what `release` is about. */
  let last: Tracker = live
  const offline = new Set<Tracker>()
  const find = async (recall: CheckpointOptions['recall']): Promise<OfflineMachine> => {
    const machine = await findOffline(recall)
    offline.add(machine.tracker)
    return machine
  }
  return {
    capabilities: {
      granularityBytes: live.capabilities.granularityBytes,
      consistency: ['offline', ...live.capabilities.consistency],
      modes: ['live', 'offline'],
    },
    async stores() {
      try {
        return await live.stores()
      } catch (error) {
        if (!isOff(error)) throw error
        return await (await find(async () => undefined)).tracker.stores()
      }
    },
    async checkpoint(options) {
      try {
        const checkpoint = await live.checkpoint(options)
        last = live
        return checkpoint
      } catch (error) {
        if (!isOff(error)) throw error
        const machine = await find(options.recall)
        const checkpoint = await machine.tracker.checkpoint(options).catch((refusal: unknown) => {
          throw inUse(refusal, error)
        })
        last = machine.tracker
        return withFiles(checkpoint, machine)
      }
    },
    async release(committed, owner) {
      await last.release(committed, owner)
    },
    async [Symbol.asyncDispose]() {
      for (const tracker of offline) await tracker[Symbol.asyncDispose]()
      await live[Symbol.asyncDispose]()
    },
  }
}

/** A machine that does not answer, and whose disks are in use all the same, runs elsewhere, or answers elsewhere. */
function inUse(refusal: unknown, off: unknown): unknown {
  if (!(refusal instanceof RefpointError && refusal.code === 'locked')) return refusal
  return new RefpointError('locked', `${refusal.message}, though ${off instanceof Error ? off.message : String(off)}`, {
    hint: 'If the machine runs, correct the path of its QMP socket. Else find out what uses its disk.',
    cause: refusal,
    fields: refusal.fields,
  })
}

function withFiles(checkpoint: Checkpoint, { files, warnings }: OfflineMachine): Checkpoint {
  return {
    time: checkpoint.time,
    consistency: checkpoint.consistency,
    stores: checkpoint.stores,
    warnings: [...checkpoint.warnings, ...warnings],
    files: [...checkpoint.files, ...files],
    assertStable: () => checkpoint.assertStable(),
    [Symbol.asyncDispose]: () => checkpoint[Symbol.asyncDispose](),
  }
}
