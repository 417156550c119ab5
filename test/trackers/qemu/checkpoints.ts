import type { Range } from '../../../src/model/extent.js'
import type { ReferencePoint } from '../../../src/model/reference-point.js'
import type { Checkpoint, CheckpointStore, Owner, Tracker } from '../../../src/trackers/tracker.js'
import { recall } from '../../recall.js'
import { openLiveSource } from './live-machine.js'

export const owner: Owner = { repositoryId: 'repository', machineUuid: 'machine' }
export const signal = new AbortController().signal

export function checkpoint(tracker: Tracker, previous?: ReferencePoint, by = owner): Promise<Checkpoint> {
  return tracker.checkpoint({ owner: by, previous, recall, signal })
}

export function pointOf({ stores, time, consistency }: Checkpoint, point = 1): ReferencePoint {
  const changeIds = Object.fromEntries(stores.map(({ name, changeId }) => [name, changeId ?? '']))
  return { point, time: time.toISOString(), consistency, changeIds }
}

/** A run that commits: the point that it took. */
export async function commit(tracker: Tracker, previous?: ReferencePoint, by = owner): Promise<ReferencePoint> {
  await using taken = await checkpoint(tracker, previous, by)
  const point = pointOf(taken)
  await tracker.release(point, by)
  return point
}

export function storeOf(taken: Checkpoint, name: string): CheckpointStore {
  const store = taken.stores.find((candidate) => candidate.name === name)
  if (store === undefined) throw new Error(`no disk ${name} among ${taken.stores.map((found) => found.name).join(', ')}`)
  return store
}

/** What a checkpoint tells of a disk since a point. @throws ChangeIdExpired */
export async function changesOf(taken: Checkpoint, name: string, since: ReferencePoint): Promise<Range[]> {
  const ranges: Range[] = []
  const pages = await storeOf(taken, name).changedExtents(since.changeIds[name] ?? '', { signal })
  for await (const page of pages) ranges.push(...page)
  return ranges
}

export async function contentOf({ source, sizeBytes }: CheckpointStore): Promise<Buffer> {
  const reader = await openLiveSource(source)
  const content = Buffer.alloc(sizeBytes)
  await reader.read(content, 0)
  await reader.close()
  return content
}
