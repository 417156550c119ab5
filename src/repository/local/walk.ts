import type { Dirent } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { isSegment } from '../names.js'
import { isMissing, storageError } from './storage-error.js'
import { isTemporary } from './temporary-file.js'

/** What is in a folder; nothing when it is not there (any more). */
export async function listFolder(folder: string): Promise<readonly Dirent[]> {
  try {
    return await readdir(folder, { withFileTypes: true })
  } catch (error) {
    if (isMissing(error)) return []
    throw storageError('list', folder, error)
  }
}

/** Names of the objects in a folder and below, in the order of their full names. `prefix` is the folder's own name. */
export async function* walkFiles(folder: string, prefix: string): AsyncGenerator<string> {
  const start = prefix === '' ? '' : `${prefix}/`
  const entries = (await listFolder(folder)).filter(({ name }) => isSegment(name))
  // A folder's objects sort by what follows its name: "a-b" and "a.b" come before "a/…".
  const keyed = entries.map((entry) => ({ entry, key: entry.isDirectory() ? `${entry.name}/` : entry.name }))
  keyed.sort((a, b) => (a.key < b.key ? -1 : 1))
  for (const { entry } of keyed) {
    const name = start + entry.name
    if (entry.isDirectory()) yield* walkFiles(join(folder, entry.name), name)
    else if (entry.isFile()) yield name
  }
}

/** Paths of temporary files in a folder and below, with the folder each is in. */
export async function* walkTemporaries(folder: string): AsyncGenerator<{ folder: string; path: string }> {
  for (const entry of await listFolder(folder)) {
    const path = join(folder, entry.name)
    if (entry.isFile() && isTemporary(entry.name)) yield { folder, path }
    else if (entry.isDirectory() && isSegment(entry.name)) yield* walkTemporaries(path)
  }
}
