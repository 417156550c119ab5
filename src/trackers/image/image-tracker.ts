import { dirname } from 'node:path'
import { type Native, loadNative } from '../../files/native.js'
import { RefpointError } from '../../model/errors.js'
import type { Checkpoint, CheckpointOptions, Tracker } from '../tracker.js'
import { type Clone, sweepClones } from './clone.js'
import { type Frozen, freeze } from './freeze.js'
import { assertStable, checkpointStore, closeFrozen } from './frozen-image.js'
import { type ImageStore, type OpenImage, imageSize, openImage } from './open-image.js'

export interface ImageTrackerOptions {
  /** Store name to raw image file or block device. */
  readonly stores: Readonly<Record<string, ImageStore>>
  /** Whether a checkpoint may be no single instant where there is none to be had. */
  readonly allowTorn: boolean
  /** A folder for clones, on the images' file system; by default each is made beside its image. */
  readonly cloneFolder?: string
}

/**
 * Raw image files and block devices. Nothing tracks them: every question for changes is answered with
 * `ChangeIdExpired`, so that the contents are compared. Linux only: it looks into /proc and /sys.
 */
export function createImageTracker({ stores, allowTorn, cloneFolder }: ImageTrackerOptions): Tracker {
  const named = Object.entries(stores)
  const live = new Set<Checkpoint>()
  const folders = cloneFolder === undefined ? named.map(([, { path }]) => dirname(path)) : [cloneFolder]
  return {
    capabilities: {
      granularityBytes: 0,
      consistency: allowTorn ? ['offline', 'crash', 'torn'] : ['offline', 'crash'],
      modes: ['live', 'offline'],
    },
    async stores() {
      return named.map(([name, { path }]) => {
        const { sizeBytes, logicalBlockBytes } = imageSize(name, path)
        return { name, sizeBytes, logicalBlockBytes }
      })
    },
    async checkpoint({ owner, signal }: CheckpointOptions) {
      signal.throwIfAborted()
      if (process.platform !== 'linux') {
        throw new RefpointError('tracker', 'raw images can be backed up on Linux only', {
          hint: 'Locks and holders of an image are found through /proc and /sys.',
        })
      }
      await sweepClones(folders, owner)
      const native = await loadNative()
      const images: OpenImage[] = []
      const clones = new Map<OpenImage, Clone>()
      try {
        for (const [name, store] of named) images.push(openImage(name, store))
        const frozen = await freeze(images, { allowTorn, cloneFolder, owner, native }, clones)
        signal.throwIfAborted()
        const checkpoint = imageCheckpoint(frozen, native, () => live.delete(checkpoint))
        live.add(checkpoint)
        return checkpoint
      } catch (error) {
        for (const image of images) closeFrozen({ image, clone: clones.get(image) })
        throw error
      }
    },
    // Nothing is kept for a reference point: an image answers for none.
    async release() {},
    async [Symbol.asyncDispose]() {
      for (const checkpoint of live) await checkpoint[Symbol.asyncDispose]()
    },
  }
}

function imageCheckpoint(frozen: Frozen, native: Native | undefined, ended: () => void): Checkpoint {
  let open = true
  return {
    time: new Date(),
    consistency: frozen.consistency,
    warnings: frozen.warnings,
    files: [],
    stores: frozen.stores.map((store) => checkpointStore(store, native)),
    async assertStable() {
      for (const store of frozen.stores) assertStable(store)
    },
    async [Symbol.asyncDispose]() {
      if (!open) return
      open = false
      frozen.stores.forEach(closeFrozen)
      ended()
    },
  }
}
