import type { Tracker } from '../tracker.js'
import { defaultGranularityBytes } from '../bitmaps/granularity.js'
import { OfflineCheckpoint } from './offline-checkpoint.js'
import { OpenDisks, removals } from './open-disks.js'
import { checkPinnedImage, type PinnedImage } from './pinned-image.js'

export interface Qcow2TrackerOptions {
  /** Store name to its qcow2 image. */
  readonly images: Readonly<Record<string, PinnedImage>>
  /** What one bit of a new bitmap stands for, a power of two; undefined to choose by the disk's size. */
  readonly granularityBytes: number | undefined
}

/**
 * The qcow2 images of a machine that is shut down, whose persistent dirty bitmaps record what QEMU, or any of its
 * programs, writes to them. Change IDs are those of the tracker of running machines, and each goes on where the other
 * left off. While a checkpoint is held, no machine can start on the images.
 */
export function createQcow2Tracker({ images, granularityBytes }: Qcow2TrackerOptions): Tracker {
  const live = new Set<OfflineCheckpoint>()
  return {
    capabilities: {
      granularityBytes: granularityBytes ?? defaultGranularityBytes(0),
      consistency: ['offline'],
      modes: ['offline'],
    },
    async stores() {
      return Object.entries(images).map(([name, pin]) => {
        const { header } = checkPinnedImage(name, pin)
        return { name, sizeBytes: header.sizeBytes, logicalBlockBytes: 512 }
      })
    },
    async checkpoint({ owner, previous, signal }) {
      signal.throwIfAborted()
      const open = await OpenDisks.open(images, signal)
      const checkpoint = await OfflineCheckpoint.take(open, { owner, previous, granularityBytes })
      for (const earlier of live) if (earlier.ended) live.delete(earlier)
      live.add(checkpoint)
      return checkpoint
    },
    async release(committed, owner) {
      const [held] = [...live].filter(({ ended }) => !ended)
      if (held !== undefined) return await held.release(committed, owner)
      await using open = await OpenDisks.open(images, new AbortController().signal)
      await open.transaction(removals(open.disks, owner, committed.changeIds))
    },
    async [Symbol.asyncDispose]() {
      for (const checkpoint of live) await checkpoint[Symbol.asyncDispose]()
    },
  }
}
