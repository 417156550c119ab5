import type { Native } from '../../files/native.js'
import { kernelHolders } from './block-device.js'
import type { OpenImage } from './open-image.js'
import { lockImage, unlockImage } from './qemu-locks.js'
import { findWriters } from './writers.js'

/** Whether a store can be written by others while it is read. */
export type Occupancy =
  | { readonly state: 'locked' }
  | { readonly state: 'busy'; readonly why: string; readonly holders: readonly string[] }
  /** Nobody was seen, but nobody can be kept away either. */
  | { readonly state: 'unknown'; readonly why: string; readonly holders: readonly [] }

/** Takes the locks that keep others from writing until the store's descriptor is closed, or says why there are none. */
export function occupy(image: OpenImage, native: Native | undefined): Occupancy {
  const { device, identity } = image
  if (device?.readOnly === true) return { state: 'locked' }
  if (device !== undefined && !image.exclusive) {
    return busy(image, [...kernelHolders(device), ...findWriters(identity)])
  }
  if (native === undefined) {
    const holders = findWriters(identity)
    if (holders.length > 0) return busy(image, holders)
    return unknown("whether a machine writes to it can't be told: locks need the optional package koffi")
  }
  let locked: boolean
  try {
    locked = lockImage(native, image.fd)
  } catch (error) {
    return unknown(`its file system has no locks (${error instanceof Error ? error.message : String(error)})`)
  }
  // Looked for after locking: who comes later and heeds locks stays out, and who does not was most likely here before.
  const holders = findWriters(identity)
  if (locked && holders.length === 0) return { state: 'locked' }
  // A guest that does without locks now may want them later: it is not to find ours in its way.
  if (locked) unlockImage(native, image.fd)
  return busy(image, holders)
}

function busy({ identity }: OpenImage, holders: readonly string[]): Occupancy {
  const who = holders.length > 0 ? `by ${holders.join(', ')}` : 'by a process that this user may not see'
  return { state: 'busy', why: `${identity.path} is held for writing ${who}`, holders }
}

function unknown(why: string): Occupancy {
  return { state: 'unknown', why, holders: [] }
}
