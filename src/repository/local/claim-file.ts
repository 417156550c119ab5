import { lstat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Files } from '../../files/files.js'
import { RefpointError } from '../../model/errors.js'
import { errorCode, storageError } from './storage-error.js'
import { createTemporary, discardTemporary } from './temporary-file.js'

/** Errors of `link` after which there is certainly no new name. After any other (EIO, a server that went) who knows. */
const certainlyNot = ['ENOSPC', 'EDQUOT', 'EACCES', 'EROFS', 'ENOENT', 'EMLINK', 'ENAMETOOLONG', 'EXDEV', 'ELOOP']
const noLinks = ['EPERM', 'EOPNOTSUPP', 'ENOTSUP', 'ENOSYS']

/**
 * Makes `folder/name` with these bytes, durably, if and only if there is none: written and synced under a temporary
 * name, then linked, which the kernel does for exactly one of all who try.
 */
export async function claimFile(
  files: Files,
  folder: string,
  name: string,
  bytes: Uint8Array,
): Promise<'created' | 'exists'> {
  const path = join(folder, name)
  const temporary = await createTemporary(files, folder)
  try {
    await temporary.write([bytes], 0)
    await temporary.sync()
    const outcome = await linkOnce(files, temporary.path, path)
    await files.syncFolder(folder).catch((error: unknown) => {
      throw unknownOutcome(path, error)
    })
    return outcome
  } finally {
    await discardTemporary(files, temporary)
  }
}

async function linkOnce(files: Files, from: string, to: string): Promise<'created' | 'exists'> {
  try {
    await files.link(from, to)
    return 'created'
  } catch (error) {
    const code = errorCode(error) ?? ''
    // A network file system that repeats a call whose answer was lost says EEXIST of our own link.
    if (code === 'EEXIST') return (await isSameFile(from, to)) ? 'created' : 'exists'
    if (noLinks.includes(code)) {
      throw new RefpointError('io', `can't create ${to}: the file system has no hard links (${code})`, {
        hint: 'A repository needs a file system with hard links: ext4, xfs, btrfs, zfs or NFS, but not FAT or exFAT.',
        cause: error,
        fields: { path: to, code },
      })
    }
    if (certainlyNot.includes(code)) throw storageError('create', to, error)
    throw unknownOutcome(to, error)
  }
}

async function isSameFile(one: string, other: string): Promise<boolean> {
  const [a, b] = await Promise.all([lstat(one, { bigint: true }), lstat(other, { bigint: true })])
  return a.ino === b.ino && a.dev === b.dev
}

function unknownOutcome(path: string, cause: unknown): RefpointError {
  const message = `can't tell whether ${path} is there to stay: ${errorCode(cause) ?? cause}`
  return new RefpointError('commit-unknown', message, {
    hint: 'Check the storage, then run again: the next run finds out and goes on from there.',
    cause,
    fields: { path },
  })
}
