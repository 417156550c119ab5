import { readFileSync, readdirSync } from 'node:fs'
import { deviceNumber } from '../../model/device-number.js'
import { RefpointError } from '../../model/errors.js'

/** What the kernel tells of a block device in sysfs, which needs neither root nor native calls. */
export interface BlockDevice {
  /** `major:minor`, as sysfs and mountinfo write it. */
  readonly number: string
  readonly sizeBytes: number
  readonly logicalBlockBytes: number
  readonly readOnly: boolean
}

/** @throws RefpointError `tracker` where sysfs does not know the device. */
export function blockDevice(rdev: bigint, path: string): BlockDevice {
  const number = deviceNumber(rdev)
  const sectors = attribute(number, 'size')
  if (sectors === undefined) {
    throw new RefpointError('tracker', `${path}: /sys/dev/block tells nothing of block device ${number}`, {
      hint: 'In a container, give it the host’s /sys.',
    })
  }
  // A partition has no queue of its own: its disk's, one folder up, counts.
  const block = attribute(number, 'queue/logical_block_size') ?? attribute(number, '../queue/logical_block_size')
  return {
    number,
    sizeBytes: Number(sectors) * 512,
    logicalBlockBytes: Number(block ?? 512),
    readOnly: attribute(number, 'ro') === '1',
  }
}

/** Sectors written and discarded since the device appeared; it grows with every write that reaches the device. */
export function sectorsWritten(device: BlockDevice): string {
  const fields = attribute(device.number, 'stat')?.split(/\s+/) ?? []
  return `${fields[6]} written, ${fields[13] ?? 0} discarded`
}

/** Who has the device inside the kernel: mounts, and devices stacked on it (LVM, RAID, dm-crypt). */
export function kernelHolders(device: BlockDevice): string[] {
  const stacked = folder(`/sys/dev/block/${device.number}/holders`).map((name) => `/dev/${name}`)
  const mounts = text('/proc/self/mountinfo')
    .split('\n')
    .map((line) => line.split(' '))
    .filter((fields) => fields[2] === device.number)
    .map((fields) => `the file system mounted on ${fields[4]}`)
  return [...mounts, ...stacked]
}

function attribute(number: string, name: string): string | undefined {
  // Not joined: `..` must be resolved by the kernel, behind the symbolic link that the device's folder is.
  const value = text(`/sys/dev/block/${number}/${name}`).trim()
  return value === '' ? undefined : value
}

function text(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

function folder(path: string): string[] {
  try {
    return readdirSync(path)
  } catch {
    return []
  }
}
