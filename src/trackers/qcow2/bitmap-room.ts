import { stat, statfs } from 'node:fs/promises'
import { dirname } from 'node:path'
import { RefpointError } from '../../model/errors.js'
import { defaultGranularityBytes } from '../bitmaps/granularity.js'
import type { CheckedImage } from './pinned-image.js'

/** Bitmaps of one image that have to be saved: of this owner before and after, and of others. */
const expectedBitmaps = 4
/** For the tables about them. */
const tableBytes = 1024 * 1024

/**
 * Looks for the room that saving bitmaps takes before an image is opened for writing: those of an image that can't be
 * saved are lost, the ones of earlier points too.
 * @throws RefpointError `tracker` when its file system is full.
 */
export async function assertRoomForBitmaps(store: string, { pin, header }: CheckedImage): Promise<void> {
  if (!(await stat(pin.path)).isFile()) return
  const { bavail, bsize } = await statfs(dirname(pin.path))
  const freeBytes = bavail * bsize
  const bitmapBytes = Math.ceil(header.sizeBytes / defaultGranularityBytes(header.sizeBytes) / 8)
  const neededBytes = expectedBitmaps * bitmapBytes + tableBytes
  if (freeBytes >= neededBytes) return
  throw new RefpointError('tracker', `store ${store}: beside ${pin.path} only ${freeBytes} bytes are free`, {
    hint: `To keep track of changes without losing what is tracked already, it takes ${neededBytes}. Make room there.`,
    fields: { store, path: pin.path, freeBytes, neededBytes },
  })
}
