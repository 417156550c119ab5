/*
 * The composition root of machines that are shut down: their qcow2 images keep track of changes themselves, their raw
 * ones are read like any other.
 */
import { joinTrackers } from './trackers/combined/join-trackers.js'
import type { PinnedImage } from './trackers/qcow2/pinned-image.js'
import type { Tracker } from './trackers/tracker.js'

/** A tracker of images, at least one, while no machine runs on them. */
export async function buildOfflineTracker(images: Readonly<Record<string, PinnedImage>>): Promise<Tracker> {
  const all = Object.entries(images)
  const qcow2 = all.filter(([, { format }]) => format === 'qcow2')
  const raw = all.filter(([, { format }]) => format === 'raw')
  const parts: Tracker[] = []
  if (qcow2.length > 0) {
    const { createQcow2Tracker } = await import('./trackers/qcow2/qcow2-tracker.js')
    parts.push(createQcow2Tracker({ images: Object.fromEntries(qcow2), granularityBytes: undefined }))
  }
  if (raw.length > 0) {
    const { createImageTracker } = await import('./trackers/image/image-tracker.js')
    const stores = Object.fromEntries(raw.map(([name, { path }]) => [name, { path, format: 'raw' as const }]))
    parts.push(createImageTracker({ stores, allowTorn: false }))
  }
  return joinTrackers(parts)
}
