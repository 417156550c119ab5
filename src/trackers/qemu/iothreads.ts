import { RefpointError } from '../../model/errors.js'
import type { LiveDisk } from './disks.js'
import { isRefusal, type Monitor } from './monitor.js'

/*
 * QEMU 7.2 crashes, and the guest with it, when a throttle filter is put over a disk that an iothread serves, or when a
 * client of an NBD export of such a disk goes. Newer versions are said to have mended both, which was not tried here.
 */

/** Names of the disks that a thread of their own serves (`iothread=`). */
export async function servedByIothreads(monitor: Monitor, disks: readonly LiveDisk[]): Promise<string[]> {
  const served: string[] = []
  for (const { name, device } of disks) {
    const bus = await property(monitor, device, 'parent_bus')
    // Of a SCSI disk, the controller has the thread.
    const controller = typeof bus === 'string' && bus.includes('/') ? bus.slice(0, bus.lastIndexOf('/')) : undefined
    for (const path of [device, controller]) {
      if (path === undefined || served.includes(name)) continue
      if (isSet(await property(monitor, path, 'iothread')) || isSet(await property(monitor, path, 'iothread-vq-mapping'))) {
        served.push(name)
      }
    }
  }
  return served
}

/** @throws RefpointError `tracker` when a disk is served by a thread of its own; nothing was touched. */
export async function assertNoIothreads(monitor: Monitor, disks: readonly LiveDisk[]): Promise<void> {
  const served = await servedByIothreads(monitor, disks)
  if (served.length === 0) return
  throw new RefpointError('tracker', `disk '${served.join("', '")}' has a thread of its own in QEMU (iothread)`, {
    hint: `QEMU could crash over the backup of such a disk. ${iothreadHint}`,
    fields: { stores: served },
  })
}

export const iothreadHint =
  'Start the machine without iothread= at that disk or its controller, exclude the disk (disks.exclude), ' +
  'or back the machine up while it is shut down.'

function isSet(value: unknown): boolean {
  return value !== undefined && value !== null && value !== ''
}

/** Undefined where an object has no such property. */
async function property(monitor: Monitor, path: string, name: string): Promise<unknown> {
  try {
    return await monitor.client.execute('qom-get', { path, property: name })
  } catch (error) {
    if (isRefusal(error)) return undefined
    throw error
  }
}
