import { closeSync, constants, fstatSync, openSync, realpathSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { RefpointError } from '../../model/errors.js'
import { type Qcow2Header, readQcow2Header } from './qcow2-header.js'

/**
 * An image and all that is below it, as somebody vouches for it: the machine when it ran, or the configuration. A guest
 * can make a raw disk look like any image, and whoever owns an image can name any file as its backing: so no format is
 * guessed, and no file is opened because an image names it.
 */
export interface PinnedImage {
  readonly format: 'qcow2' | 'raw'
  /** Absolute; a file or a block device. */
  readonly path: string
  /** What backs it; left out where nothing does. */
  readonly backing?: PinnedImage
}

/** A qcow2 image that is what its pin says, and a file or device that exists. */
export interface CheckedImage {
  readonly pin: PinnedImage
  readonly header: Qcow2Header
}

/**
 * Holds a qcow2 image, and everything below it, against its pin, reading headers only.
 * @throws RefpointError `tracker` when it is not there, is something else than its pin says, or can't be backed up
 * while the machine is shut down.
 */
export function checkPinnedImage(store: string, pin: PinnedImage): CheckedImage {
  const header = checkLayer(store, pin)
  if (header === undefined) throw new RangeError(`store ${store} is pinned as ${pin.format}`)
  return { pin, header }
}

function checkLayer(store: string, pin: PinnedImage): Qcow2Header | undefined {
  const { path, format, backing } = pin
  if (format === 'raw') {
    withFile(store, path, () => {})
    return undefined
  }
  const header = withFile(store, path, readQcow2Header)
  const refuse = (what: string, hint: string): RefpointError =>
    new RefpointError('tracker', `store ${store}: ${path} ${what}`, { hint, fields: { store, path } })
  if (header === undefined) {
    throw refuse('is no qcow2 image', 'If it is a raw image, say so in the configuration: format: raw.')
  }
  if (header.encrypted) {
    throw refuse(
      'is encrypted inside (LUKS or AES), and refpoint has no key for it',
      'Back the machine up while it runs: QEMU has the key then.',
    )
  }
  if (header.dataFile) {
    throw refuse('keeps its data in another file (data_file)', 'Back the machine up while it runs.')
  }
  if (header.corrupt) {
    throw refuse(
      'is marked as corrupt: QEMU found its tables to contradict each other',
      `Nothing was read. 'qemu-img check' tells what is wrong, and 'qemu-img check -r all' repairs what can be.`,
    )
  }
  checkBacking(path, header, backing, refuse)
  if (backing !== undefined) checkLayer(store, backing)
  return header
}

function checkBacking(
  path: string,
  { backing: named }: Qcow2Header,
  pinned: PinnedImage | undefined,
  refuse: (what: string, hint: string) => RefpointError,
): void {
  if (named === undefined && pinned === undefined) return
  if (named === undefined) {
    throw refuse(
      `has no backing file, and ${pinned?.path} was expected`,
      'It was changed since the machine was last seen. Start the machine once and back it up, or correct the configuration.',
    )
  }
  // As QEMU does: beside the image, unless it is absolute.
  const found = resolve(dirname(path), named.name)
  if (pinned === undefined) {
    throw refuse(
      `has the backing file ${named.name}, for which nothing vouches`,
      `If that is right, say so in the configuration: { path: ${path}, backing: { path: ${found}, format: ` +
        `${named.format ?? 'raw or qcow2'} } }. What an image names is not opened unasked.`,
    )
  }
  if (!isSame(found, pinned.path)) {
    throw refuse(
      `has the backing file ${named.name}, and ${pinned.path} was expected`,
      'It was changed since the machine was last seen. Start the machine once and back it up, or correct the configuration.',
    )
  }
  const format = named.format === 'file' || named.format === 'host_device' ? 'raw' : named.format
  if (format !== undefined && format !== pinned.format) {
    throw refuse(
      `takes its backing file ${named.name} for a ${format} image, and ${pinned.format} was expected`,
      `The guest reads something else from it then. 'qemu-img rebase -u -F ${pinned.format} -b ${named.name} ${path}' ` +
        'sets it right; or start the machine once and back it up, or correct the configuration.',
    )
  }
}

function isSame(one: string, other: string): boolean {
  try {
    return realpathSync(one) === realpathSync(other)
  } catch {
    return false
  }
}

const refusals: Readonly<Record<string, readonly [what: string, hint: string]>> = {
  ENOENT: ['is not there', 'Check its path; a volume may have to be activated first, or the machine was moved.'],
  EACCES: ['may not be read by this user', 'Run as root, or as a user who may read and write the image.'],
  EPERM: ['may not be read by this user', 'Run as root, or as a user who may read and write the image.'],
}

function withFile<T>(store: string, path: string, read: (fd: number) => T): T {
  let fd: number | undefined
  try {
    // O_NONBLOCK: should a pipe have taken the file's place, opening it must not hang.
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
    const stats = fstatSync(fd)
    if (stats.isFile() || stats.isBlockDevice()) return read(fd)
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : ''
    const [what, hint] = refusals[code] ?? [`can't be read: ${cause instanceof Error ? cause.message : String(cause)}`]
    throw new RefpointError('tracker', `store ${store}: ${path} ${what}`, {
      ...(hint === undefined ? {} : { hint }),
      cause,
      fields: { store, path, system: code },
    })
  } finally {
    if (fd !== undefined) closeSync(fd)
  }
  throw new RefpointError('tracker', `store ${store}: ${path} is neither a file nor a block device`, {
    fields: { store, path },
  })
}
