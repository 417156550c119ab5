import { ChangeIdExpired } from '../../model/errors.js'
import type { Doctor, ExamineOptions, Finding } from '../../trackers/doctor.js'
import type { CheckpointStore, Tracker } from '../../trackers/tracker.js'

/**
 * Examines a machine by what its backup would do: a checkpoint is taken, asked, and given up. That cleans after killed
 * runs, too, as every run does, so there is nothing more to fix. For trackers whose checkpoints cost nobody anything.
 */
export function tryCheckpoint(tracker: Tracker): Doctor {
  return {
    async examine(options) {
      const { owner = nobody, previous } = options
      await using taken = await tracker.checkpoint({ ...options, owner })
      const findings: Finding[] = [
        {
          level: 'good',
          topic: 'checkpoint',
          store: null,
          message: `a checkpoint can be taken: one instant of ${taken.stores.length} disks, consistency ${taken.consistency}`,
        },
      ]
      for (const message of taken.warnings) findings.push({ level: 'note', topic: 'checkpoint', store: null, message })
      for (const store of taken.stores) findings.push(await answerable(store, options))
      // What the checkpoint began (a bitmap in an image) nobody will ask for.
      await tracker.release(previous ?? { ...nothing, time: taken.time.toISOString() }, owner)
      return findings
    },
    async fix(options) {
      await using taken = await tracker.checkpoint(options)
      await tracker.release(options.previous ?? { ...nothing, time: taken.time.toISOString() }, options.owner)
      return []
    },
    [Symbol.asyncDispose]: () => tracker[Symbol.asyncDispose](),
  }
}

/** Of a machine that was never backed up: an owner that has nothing anywhere. */
const nobody = { repositoryId: '00000000-0000-0000-0000-000000000000', machineUuid: 'doctor' }

const nothing = { point: 0, consistency: 'offline', changeIds: {} } as const

async function answerable(store: CheckpointStore, { previous, signal }: ExamineOptions): Promise<Finding> {
  const about = { topic: 'tracking', store: store.name }
  const since = previous?.changeIds[store.name]
  if (store.changeId === undefined) {
    return {
      ...about,
      level: 'note',
      message: `${store.name}: nothing tracks it: all of it is read each time, and compared`,
    }
  }
  if (previous === undefined)
    return { ...about, level: 'good', message: `${store.name}: tracked; the first point is a full` }
  if (since === undefined)
    return { ...about, level: 'note', message: `${store.name}: not in point #${previous.point}: stored as a whole` }
  try {
    await store.changedExtents(since, { signal })
    return { ...about, level: 'good', message: `${store.name}: tracked since point #${previous.point}` }
  } catch (error) {
    if (!(error instanceof ChangeIdExpired)) throw error
    return {
      ...about,
      level: 'note',
      message: `${store.name}: compared with point #${previous.point} next time: ${error.explanation}`,
    }
  }
}
