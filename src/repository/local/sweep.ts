import { lstat } from 'node:fs/promises'
import type { Files } from '../../files/files.js'
import { isMissing } from './storage-error.js'
import { createTemporary, discardTemporary, isAbandoned } from './temporary-file.js'
import { walkTemporaries } from './walk.js'

/** Removes the temporary files of dead writers in a folder and below; returns how many. */
export async function sweepTemporaries(files: Files, folder: string): Promise<number> {
  let removed = 0
  let nowMs: number | undefined
  for await (const found of walkTemporaries(folder)) {
    nowMs ??= await fileSystemTime(files, found.folder)
    if (!(await isAbandoned(found.path, nowMs))) continue
    try {
      await files.unlink(found.path)
      removed += 1
    } catch (error) {
      if (!isMissing(error)) throw error
    }
  }
  return removed
}

/** What the file system would stamp a file with now: on a network its clock may differ from this host's. */
async function fileSystemTime(files: Files, folder: string): Promise<number> {
  const temporary = await createTemporary(files, folder)
  try {
    return (await lstat(temporary.path)).mtimeMs
  } finally {
    await discardTemporary(files, temporary)
  }
}
