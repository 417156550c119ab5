import { type BigIntStats, closeSync, constants, fstatSync, openSync, statSync } from 'node:fs'
import { RefpointError } from '../../model/errors.js'
import { type BlockDevice, blockDevice } from './block-device.js'
import { foreignFormat } from './image-format.js'
import type { FileIdentity } from './writers.js'

/** A store of the configuration: a raw image file or a block device. */
export interface ImageStore {
  readonly path: string
  /** Says that a file which begins like qcow2, VMDK and so on is a raw image all the same. */
  readonly format?: 'raw'
}

export interface OpenImage {
  readonly name: string
  readonly fd: number
  readonly identity: FileIdentity
  readonly sizeBytes: number
  readonly logicalBlockBytes: number
  /** Undefined for a file. */
  readonly device: BlockDevice | undefined
  /** Whether a block device is ours alone in the kernel: not mounted, not part of LVM or RAID. */
  readonly exclusive: boolean
}

export type ImageSize = Pick<OpenImage, 'sizeBytes' | 'logicalBlockBytes' | 'device'>

/** Size of a store without opening it. @throws RefpointError `tracker` as `openImage`. */
export function imageSize(name: string, path: string): ImageSize {
  return sizeOf(attempt(name, path, () => statSync(path, { bigint: true })), name, path)
}

/**
 * Opens a store for reading, a block device exclusively where that is possible.
 * @throws RefpointError `tracker`: not there, not allowed, neither file nor block device, or no raw image.
 */
export function openImage(name: string, { path, format }: ImageStore): OpenImage {
  imageSize(name, path)
  const { fd, exclusive } = attempt(name, path, () => openFile(path))
  try {
    const stats = fstatSync(fd, { bigint: true })
    const size = sizeOf(stats, name, path)
    const foreign = format === 'raw' ? undefined : attempt(name, path, () => foreignFormat(fd))
    if (foreign !== undefined) throw foreignImage(name, path, foreign)
    const rdev = size.device === undefined ? undefined : stats.rdev
    return { name, fd, exclusive, identity: { path, dev: stats.dev, ino: stats.ino, rdev }, ...size }
  } catch (error) {
    closeSync(fd)
    throw error
  }
}

function openFile(path: string): { fd: number; exclusive: boolean } {
  // O_NONBLOCK: should a pipe have taken the file's place, opening it must not hang.
  const flags = constants.O_RDONLY | constants.O_NONBLOCK
  if (!statSync(path).isBlockDevice()) return { fd: openSync(path, flags), exclusive: false }
  try {
    return { fd: openSync(path, flags | constants.O_EXCL), exclusive: true }
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EBUSY')) throw error
    return { fd: openSync(path, flags), exclusive: false }
  }
}

function sizeOf(stats: BigIntStats, name: string, path: string): ImageSize {
  if (stats.isFile()) return { sizeBytes: Number(stats.size), logicalBlockBytes: 512, device: undefined }
  if (!stats.isBlockDevice()) {
    throw new RefpointError('tracker', `store ${name}: ${path} is neither a file nor a block device`, {
      fields: { store: name, path },
    })
  }
  const device = blockDevice(stats.rdev, path)
  return { sizeBytes: device.sizeBytes, logicalBlockBytes: device.logicalBlockBytes, device }
}

function foreignImage(name: string, path: string, format: string): RefpointError {
  return new RefpointError('tracker', `store ${name}: ${path} is a ${format} image, not a raw one`, {
    hint:
      `Convert it (qemu-img convert -O raw). If it is a raw disk that only begins like ${format}, say so: ` +
      `${name}: { path: ${path}, format: raw }`,
    fields: { store: name, path, format },
  })
}

const refusals: Readonly<Record<string, readonly [what: string, hint: string]>> = {
  ENOENT: ['is not there', 'Check the path in the configuration; a volume may have to be activated first.'],
  EACCES: ['may not be read by this user', 'Run as root, or as a user who may read it (group "disk" for devices).'],
  EPERM: ['may not be read by this user', 'Run as root, or as a user who may read it (group "disk" for devices).'],
  EIO: ["can't be read (EIO)", 'See dmesg for what the disk below says, and save what is on it.'],
  ENXIO: ['has no device behind it', 'Check that the disk is attached.'],
}

function attempt<T>(name: string, path: string, operation: () => T): T {
  try {
    return operation()
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : ''
    const [what, hint] = refusals[code] ?? [`can't be opened: ${cause instanceof Error ? cause.message : cause}`]
    throw new RefpointError('tracker', `store ${name}: ${path} ${what}`, {
      ...(hint === undefined ? {} : { hint }),
      cause,
      fields: { store: name, path, system: code },
    })
  }
}
