import { closeSync } from 'node:fs'
import { dataExtents } from '../../files/sparse.js'
import type { Native } from '../../files/native.js'
import { ChangeIdExpired } from '../../model/errors.js'
import type { Extent, Range } from '../../model/extent.js'
import type { CheckpointStore } from '../tracker.js'
import type { Clone } from './clone.js'
import type { OpenImage } from './open-image.js'
import { type Trace, assertUntouched } from './stability.js'

/** A store of a checkpoint: the image itself, or its clone. */
export interface FrozenImage {
  readonly image: OpenImage
  readonly clone: Clone | undefined
  /** Undefined where nothing is promised (torn) or nothing can happen (a clone of our own). */
  readonly trace: Trace | undefined
}

export function checkpointStore({ image, clone }: FrozenImage, native: Native | undefined): CheckpointStore {
  const fd = clone?.fd ?? image.fd
  const sizeBytes = clone?.sizeBytes ?? image.sizeBytes
  // Of a device, whether unallocated means zero is not known: all of it is read.
  const holes = image.device === undefined ? native : undefined
  return {
    name: image.name,
    sizeBytes,
    logicalBlockBytes: image.logicalBlockBytes,
    changeId: undefined,
    // Through the descriptor, so that every worker reads the very file that is locked or cloned, whatever its name
    // means by then.
    source: { kind: 'file', path: `/proc/${process.pid}/fd/${fd}`, sizeBytes },
    async changedExtents() {
      throw new ChangeIdExpired('untracked', 'a raw image does not tell what was changed')
    },
    async *allocatedExtents(range: Range, { signal }): AsyncGenerator<readonly Extent[]> {
      for (const page of dataExtents(fd, range, holes)) {
        signal.throwIfAborted()
        yield page
      }
    },
  }
}

export function assertStable({ image, trace }: FrozenImage): void {
  if (trace !== undefined) assertUntouched(image, trace)
}

/** Frees the locks and the clone's space with the descriptors. */
export function closeFrozen({ image, clone }: Pick<FrozenImage, 'image' | 'clone'>): void {
  if (clone !== undefined) closeSync(clone.fd)
  closeSync(image.fd)
}
