import { RefpointError } from '../../model/errors.js'
import type { Checkpoint, CheckpointOptions, Tracker } from '../tracker.js'

/**
 * One machine, shut down, whose disks are of several trackers. Each holds its disks locked from its checkpoint on, so
 * that all are one instant although they are frozen one after the other: the one when the last of them was.
 * @param parts with no store name in common.
 */
export function joinTrackers(parts: readonly Tracker[]): Tracker {
  const tracking = parts.map(({ capabilities }) => capabilities.granularityBytes).filter((bytes) => bytes > 0)
  return {
    capabilities: {
      granularityBytes: tracking.length === 0 ? 0 : Math.min(...tracking),
      consistency: ['offline'],
      modes: ['offline'],
    },
    async stores() {
      return (await Promise.all(parts.map((part) => part.stores()))).flat()
    },
    async checkpoint(options) {
      const taken: Checkpoint[] = []
      try {
        for (const part of parts) taken.push(await locked(part, options))
        return joined(taken)
      } catch (error) {
        await disposeAll(taken)
        throw error
      }
    },
    async release(committed, owner) {
      for (const part of parts) await part.release(committed, owner)
    },
    async [Symbol.asyncDispose]() {
      await disposeAll(parts)
    },
  }
}

async function locked(part: Tracker, options: CheckpointOptions): Promise<Checkpoint> {
  const checkpoint = await part.checkpoint(options)
  if (checkpoint.consistency === 'offline') return checkpoint
  await checkpoint[Symbol.asyncDispose]()
  const names = checkpoint.stores.map(({ name }) => name).join(', ')
  throw new RefpointError('locked', `somebody writes to a disk of the machine (one of ${names})`, {
    hint: 'Its other disks are not in use. Find out who uses this one, and shut the machine down for the backup.',
    fields: { stores: checkpoint.stores.map(({ name }) => name) },
  })
}

function joined(parts: readonly Checkpoint[]): Checkpoint {
  return {
    time: parts.map(({ time }) => time).reduce((latest, time) => (time > latest ? time : latest)),
    consistency: 'offline',
    stores: parts.flatMap(({ stores }) => stores),
    warnings: parts.flatMap(({ warnings }) => warnings),
    files: parts.flatMap(({ files }) => files),
    async assertStable() {
      for (const part of parts) await part.assertStable()
    },
    async [Symbol.asyncDispose]() {
      await disposeAll(parts)
    },
  }
}

/** All of them, last first, even when one fails; the first failure is told. */
async function disposeAll(parts: readonly AsyncDisposable[]): Promise<void> {
  const failures: unknown[] = []
  for (const part of parts.toReversed()) {
    await Promise.resolve(part[Symbol.asyncDispose]()).catch((error: unknown) => failures.push(error))
  }
  if (failures.length > 0) throw failures[0]
}
