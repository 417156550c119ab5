import { recall } from '../../recall.js'
import { createImageTracker, type ImageTrackerOptions } from '../../../src/trackers/image/image-tracker.js'
import { openFileSource } from '../../../src/trackers/image/file-source.js'
import type { Checkpoint, CheckpointStore } from '../../../src/trackers/tracker.js'

export const owner = { repositoryId: 'repository', machineUuid: 'machine' }

/** A checkpoint of images, by a tracker of its own. */
export function checkpointOf(
  stores: Record<string, string>,
  options: Partial<ImageTrackerOptions> = {},
): Promise<Checkpoint> {
  const byName = Object.fromEntries(Object.entries(stores).map(([name, path]) => [name, { path }]))
  const tracker = createImageTracker({ stores: byName, allowTorn: false, ...options })
  return tracker.checkpoint({ owner, previous: undefined, recall, signal: new AbortController().signal })
}

/** A store's whole content as a worker would read it. */
export async function contentOf(store: CheckpointStore | undefined): Promise<Buffer> {
  if (store?.source.kind !== 'file') throw new Error('not a file source')
  const content = Buffer.alloc(store.sizeBytes)
  const reader = openFileSource(store.source)
  await reader.read(content, 0)
  await reader.close()
  return content
}
