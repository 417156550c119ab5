import { mkdir, statfs } from 'node:fs/promises'
import { dirname } from 'node:path'
import { RefpointError } from '../../model/errors.js'
import type { LiveDisk } from './disks.js'
import { imagePath, openFilesOf } from './machine/open-images.js'
import type { QemuIdentity } from './qemu-process.js'

/** Where the old data of blocks goes that the guest overwrites while they are backed up. */
export interface FleecingSettings {
  /** A folder on local storage that QEMU may write to; undefined: beside the first disk's image. */
  readonly folder: string | undefined
  /** The most that all disks' areas together may take, in bytes; undefined: what is free, less a reserve. */
  readonly limitBytes: number | undefined
}

export interface FleecingRoom {
  readonly folder: string
  /** Bytes for each disk, in their order. */
  readonly capBytes: readonly number[]
}

const mib = 1024 * 1024
/** Less than this is not worth beginning with. */
const leastBytes = 16 * mib
/** What is left to others on that file system, the disk images among them: a part of it, at least so much. */
const reservePart = 0.05
const leastReserveBytes = 256 * mib

/** File systems on other machines, by the kernel's magic numbers: when they hang, the guest's writes hang. */
const remote: Readonly<Record<number, string>> = {
  0x6969: 'NFS', 0xff534d42: 'CIFS', 0xfe534d42: 'SMB', 0x00c36400: 'CephFS', 0x47504653: 'GPFS', 0x6b414653: 'AFS',
}

/**
 * Finds the folder and shares its room out to the disks.
 * @throws RefpointError `tracker`: no folder is known, it is on another machine, or it has too little room.
 */
export async function findRoom(
  settings: FleecingSettings,
  disks: readonly LiveDisk[],
  qemu: QemuIdentity,
): Promise<FleecingRoom> {
  const folder = settings.folder ?? (await besideImage(disks, qemu))
  if (settings.folder !== undefined) await mkdir(folder, { recursive: true, mode: 0o700 })
  const stats = await statfs(folder).catch((cause: unknown) => {
    const why = cause instanceof Error ? cause.message : String(cause)
    throw new RefpointError('tracker', `the folder for fleecing ${folder} can't be used: ${why}`, { cause, hint })
  })
  const kind = remote[stats.type >>> 0]
  if (kind !== undefined) {
    throw new RefpointError('tracker', `the folder for fleecing ${folder} is on ${kind}`, {
      hint: `The guest would wait for that network at every write. ${hint}`,
      fields: { folder, fileSystem: kind },
    })
  }
  const freeBytes = stats.bavail * stats.bsize
  const reserve = Math.min(freeBytes / 2, Math.max(leastReserveBytes, stats.blocks * stats.bsize * reservePart))
  const roomBytes = Math.min(settings.limitBytes ?? Number.MAX_SAFE_INTEGER, Math.floor(freeBytes - reserve))
  const capBytes = shareOut(roomBytes, disks.map(({ sizeBytes }) => mostNeeded(sizeBytes)))
  if (capBytes.some((bytes, i) => bytes < Math.min(leastBytes, mostNeeded(disks[i]?.sizeBytes ?? 0)))) {
    throw new RefpointError('tracker', `${folder} has too little room for fleecing: ${freeBytes} bytes are free`, {
      hint: `What the guest overwrites during the backup is kept there. ${hint}`,
      fields: { folder, freeBytes, roomBytes },
    })
  }
  return { folder, capBytes }
}

const hint = 'Name a folder on local storage with room: fleecing: { folder: … }.'

async function besideImage(disks: readonly LiveDisk[], qemu: QemuIdentity): Promise<string> {
  const open = await openFilesOf(qemu.pid).catch(() => [])
  for (const { imageFile } of disks) {
    // Of a machine that was started as a daemon, a relative name says nothing: what it has open does.
    const path = await imagePath(imageFile, qemu.folder ?? '/', open)
    if (path !== null && !path.startsWith('/dev/')) return dirname(path)
  }
  const found = disks.map(({ name, imageFile }) => `${name} is ${imageFile.slice(0, mostOfName)}`)
  throw new RefpointError(
    'tracker',
    `no disk of the machine is a file here, beside which there could be room for fleecing: ${found.join(', ')}`,
    { hint: `What the guest overwrites during the backup needs a place. ${hint}`, fields: { found } },
  )
}

/** Of what QEMU tells of an image, for a message: options in JSON may have any length. */
const mostOfName = 120

/** All of a disk, and what qcow2 needs besides: tables of 8 and 2 bytes for each 64 KiB, and a few clusters. */
function mostNeeded(sizeBytes: number): number {
  return Math.ceil((sizeBytes * 1.001) / 65_536) * 65_536 + mib
}

/** Equal shares, but to nobody more than needed: what one leaves goes to the others. Whole clusters. */
function shareOut(totalBytes: number, needs: readonly number[]): number[] {
  const shares = needs.map(() => 0)
  let left = totalBytes
  const order = needs.map((_, i) => i).sort((a, b) => (needs[a] ?? 0) - (needs[b] ?? 0))
  for (const [place, i] of order.entries()) {
    const share = Math.min(needs[i] ?? 0, Math.floor(left / (order.length - place)))
    shares[i] = share - (share % 65_536)
    left -= share
  }
  return shares
}

