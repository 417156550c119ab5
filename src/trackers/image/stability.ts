import { fstatSync, fsyncSync } from 'node:fs'
import { RefpointError } from '../../model/errors.js'
import { blockDevice, sectorsWritten } from './block-device.js'
import type { OpenImage } from './open-image.js'

/** What changes when a store is written: of a file its size and time, of a device its size and the kernel's counter. */
export type Trace = string

/** Takes the trace of a store; of a device, only after what is cached for it has been written out. */
export function traceOf(image: OpenImage): Trace {
  const { fd, device } = image
  if (device !== undefined && !device.readOnly) fsyncSync(fd)
  const modified = fstatSync(fd, { bigint: true }).mtimeNs
  const written = device === undefined ? `modified at ${modified} ns` : `sectors ${sectorsWritten(device)}`
  return `${sizeNow(image)} bytes, ${written}`
}

/** @throws RefpointError `tracker` when the store got another size between being opened and being locked. */
export function assertSameSize(image: OpenImage): void {
  const now = sizeNow(image)
  if (now === image.sizeBytes) return
  throw new RefpointError('tracker', `store ${image.name}: ${image.identity.path} was resized just now`, {
    hint: 'Run the backup again.',
    fields: { store: image.name, path: image.identity.path, beforeBytes: image.sizeBytes, nowBytes: now },
  })
}

function sizeNow({ fd, device, identity }: OpenImage): number {
  const stats = fstatSync(fd, { bigint: true })
  return device === undefined ? Number(stats.size) : blockDevice(stats.rdev, identity.path).sizeBytes
}

/** @throws RefpointError `tracker` when the store was written since `before` was taken. */
export function assertUntouched(image: OpenImage, before: Trace): void {
  const now = traceOf(image)
  if (now === before) return
  throw new RefpointError('tracker', `store ${image.name}: ${image.identity.path} was written while it was read`, {
    hint:
      'Nothing was committed. Find out who writes to it and stop that during the backup, ' +
      'or allow a backup that is no single instant: allow: [torn].',
    fields: { store: image.name, path: image.identity.path, before, now },
  })
}
