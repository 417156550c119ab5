import { createHash, randomBytes } from 'node:crypto'
import { closeSync, constants, fstatSync, openSync } from 'node:fs'
import { copyFile, readdir, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import type { Owner } from '../tracker.js'

export interface Clone {
  readonly fd: number
  readonly sizeBytes: number
}

/**
 * Makes a reflink clone of an open file in `folder`: all its bytes at one instant, sharing their space. It has a name
 * only until it is open, so that the kernel frees it with the process, however that ends.
 * @returns the clone, or why there can be none.
 */
export async function cloneImage(fd: number, folder: string, owner: Owner): Promise<Clone | string> {
  const name = join(folder, `${prefix(owner)}${randomBytes(6).toString('hex')}`)
  try {
    await copyFile(`/proc/self/fd/${fd}`, name, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE_FORCE)
  } catch (error) {
    return unclonable(error, folder)
  }
  let clone: number | undefined
  try {
    clone = openSync(name, 'r')
    return { fd: clone, sizeBytes: fstatSync(clone).size }
  } catch (error) {
    if (clone !== undefined) closeSync(clone)
    throw error
  } finally {
    await unlink(name)
  }
}

/** Removes the clones that runs of this owner left when they were killed between making one and opening it. */
export async function sweepClones(folders: Iterable<string>, owner: Owner): Promise<void> {
  const start = prefix(owner)
  for (const folder of new Set(folders)) {
    const names = await readdir(folder).catch((): string[] => [])
    for (const name of names.filter((entry) => entry.startsWith(start))) await unlink(join(folder, name))
  }
}

/** The owner's IDs are hashed: any text is allowed in them, and not in a file name. */
function prefix({ repositoryId, machineUuid }: Owner): string {
  const owner = createHash('sha256').update(JSON.stringify([repositoryId, machineUuid])).digest('hex').slice(0, 16)
  return `.refpoint-clone-${owner}-`
}

function unclonable(error: unknown, folder: string): string {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS') return `it can't be cloned: ${folder} is not writable`
  if (code === 'ENOSPC' || code === 'EDQUOT') return `it can't be cloned: ${folder} is full`
  return 'its file system can not clone files'
}
