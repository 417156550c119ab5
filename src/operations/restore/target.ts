import { type FileHandle, open, stat } from 'node:fs/promises'
import { RefpointError } from '../../model/errors.js'
import type { ComposeTarget, Place } from '../compose/compose-store.js'
import { createNewFile, type NewFileOptions } from './new-file.js'
import { WriteBack } from './write-back.js'

export type DiskFormat = 'raw' | 'qcow2'

/** What a store is written to; workers open and write its `path`. */
export interface RestoreTarget extends ComposeTarget {
  /** Where it is in the end. */
  readonly finalPath: string
  readonly format: DiskFormat
  /** A file that must not be left behind, or null. */
  readonly temporary: string | null
  /** Tells that so many more bytes were written to it; never waits. */
  written(bytes: number): void
  /** Makes everything durable and gives it its name. */
  finish(): Promise<void>
  /** Drops what was written, as far as it was ours; safe after `finish`. */
  discard(): Promise<void>
}

/**
 * A new sparse raw file under a temporary name beside its place.
 * @throws RefpointError `usage` when there is a file of that name and not `force`.
 */
export async function prepareFile(path: string, sizeBytes: number, options: NewFileOptions): Promise<RestoreTarget> {
  const { handle, temporary, written, publish, discard } = await createNewFile(path, options)
  try {
    await handle.truncate(sizeBytes)
  } catch (error) {
    await discard()
    throw error
  }
  return {
    path: temporary,
    finalPath: path,
    format: 'raw',
    temporary,
    writeZeroes: false,
    written,
    openWindow: inPlace,
    finish: publish,
    discard,
  }
}

/**
 * An existing device or file that is written in place, whose size must suffice; a file that does not exist is made.
 * @throws RefpointError `usage` when it exists and not `force`, or is too small.
 */
export async function prepareInPlace(
  path: string,
  sizeBytes: number,
  { force }: { readonly force: boolean },
): Promise<RestoreTarget> {
  const existing = await stat(path).catch(() => undefined)
  if (existing === undefined) return await prepareFile(path, sizeBytes, { force: false, attempt: String(process.pid) })
  if (!force) {
    throw new RefpointError('usage', `${path} exists and all of it would be overwritten; nothing was restored`, {
      hint: 'Say --force if that is what you want.',
      fields: { path },
    })
  }
  if (!existing.isFile() && !existing.isBlockDevice()) {
    throw new RefpointError('usage', `${path} is neither a file nor a block device`, { fields: { path } })
  }
  // On Linux O_EXCL without O_CREAT claims a block device: it fails when the device is mounted or in use.
  const file = await openExclusive(path, existing.isBlockDevice())
  const room = existing.isFile() ? existing.size : await deviceBytes(file)
  if (existing.isFile()) await file.truncate(sizeBytes)
  else if (room < sizeBytes) {
    await file.close()
    throw new RefpointError('usage', `${path} has ${room} bytes, the store ${sizeBytes}; nothing was written`, {
      hint: 'Give a device at least as large as the store.',
      fields: { path, room, sizeBytes },
    })
  }
  const writeBack = new WriteBack(file)
  return {
    path,
    finalPath: path,
    format: 'raw',
    temporary: null,
    writeZeroes: true,
    openWindow: inPlace,
    written: (bytes) => writeBack.written(bytes),
    async finish() {
      await writeBack.finish()
      await file.close()
    },
    async discard() {
      await writeBack.settle()
      // Half of it is overwritten: an empty file can't be taken for a whole one. A device can't be told apart.
      if (existing.isFile()) await file.truncate(0).catch(() => {})
      await file.close().catch(() => {})
    },
  }
}

async function openExclusive(path: string, device: boolean): Promise<FileHandle> {
  const { constants } = await import('node:fs')
  try {
    return await open(path, constants.O_RDWR | (device ? constants.O_EXCL : 0))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EBUSY') throw error
    throw new RefpointError('locked', `${path} is in use (mounted, or part of another device); nothing was written`, {
      hint: 'Unmount it first, or restore to a file.',
      cause: error,
    })
  }
}

/** Bytes of a block device: where reading ends, found by halving, since its stat says 0. */
async function deviceBytes(file: FileHandle): Promise<number> {
  const probe = Buffer.alloc(1)
  const readable = async (offset: number): Promise<boolean> => (await file.read(probe, 0, 1, offset)).bytesRead === 1
  let low = 0
  let high = 2 ** 52
  while (low < high) {
    const middle = Math.floor((low + high) / 2)
    if (await readable(middle)) low = middle + 1
    else high = middle
  }
  return low
}

/** Of raw targets: a byte is where it is on the store. */
async function inPlace(): Promise<Place> {
  return (offset) => offset
}
