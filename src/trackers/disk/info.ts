import { lstat, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Files } from '../../files/files.js'
import { nodeFiles } from '../../files/node-files.js'
import { RefpointError } from '../../model/errors.js'
import { dataPath, type DiskFile, readDiskFile } from './disk-file.js'

export interface DiskInfo {
  readonly folder: string
  readonly uuid: string
  readonly sizeBytes: number
  readonly blockBytes: number
  readonly generation: number
  /** The user's checkpoints, oldest first; `time` is ISO 8601, UTC. */
  readonly checkpoints: readonly { readonly name: string; readonly time: string }[]
  /** One when nothing waits to be merged and there are no checkpoints. */
  readonly layers: number
  /** Space that the layers' data takes. */
  readonly allocatedBytes: number
}

/** What a disk is, read without a lock: right for a disk that is being served, too. */
export async function diskInfo(folder: string, files: Files = nodeFiles): Promise<DiskInfo> {
  const file = await readDiskFile(files, folder)
  return {
    folder,
    uuid: file.uuid,
    sizeBytes: file.sizeBytes,
    blockBytes: file.blockBytes,
    generation: file.generation,
    checkpoints: file.layers.flatMap(({ name, time }) => (name === undefined ? [] : [{ name, time: time ?? '' }])),
    layers: file.layers.length,
    allocatedBytes: await allocatedBytes(folder, file),
  }
}

/** The tracked disks directly below a folder, and the folder itself if it is one, by name. */
export async function listDisks(folder: string, files: Files = nodeFiles): Promise<readonly DiskInfo[]> {
  let names: string[]
  try {
    names = (await readdir(folder)).sort()
  } catch (error) {
    throw new RefpointError('io', `cannot list ${folder}: ${(error as Error).message}`, { cause: error })
  }
  const disks: DiskInfo[] = []
  for (const place of [folder, ...names.map((name) => join(folder, name))]) {
    const isDisk = await lstat(join(place, 'disk.json')).then(
      (found) => found.isFile(),
      () => false,
    )
    if (isDisk) disks.push(await diskInfo(place, files))
  }
  return disks
}

/** A layer may be merged away while we look: then it takes no space. */
async function allocatedBytes(folder: string, file: DiskFile): Promise<number> {
  const sizes = file.layers.map(({ id }) =>
    stat(dataPath(folder, id)).then(
      ({ blocks }) => blocks * 512,
      () => 0,
    ),
  )
  return (await Promise.all(sizes)).reduce((sum, bytes) => sum + bytes, 0)
}
