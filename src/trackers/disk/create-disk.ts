import { randomUUID } from 'node:crypto'
import { closeSync, fstatSync, openSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import type { FileHandle, Files } from '../../files/files.js'
import { loadNative } from '../../files/native.js'
import { nodeFiles } from '../../files/node-files.js'
import { dataExtents } from '../../files/sparse.js'
import { RefpointError } from '../../model/errors.js'
import { dataPath, writeDiskFile } from './disk-file.js'
import { generationsPath } from './generations.js'
import { createMapFile, removeLayerFiles } from './layer.js'
import { assertSize } from './resize.js'

export interface CreateOptions {
  /** A power of two from 4 KiB to 1 MiB: the piece that is tracked as a whole. */
  readonly blockBytes?: number
  readonly files?: Files
}

const defaultBlockBytes = 16 * 1024
const copyBytes = 1024 * 1024

/** Creates an empty disk of `sizeBytes` in a new (or empty) folder; it takes no space for what is not written. */
export async function createDisk(
  folder: string,
  options: CreateOptions & { readonly sizeBytes: number },
): Promise<void> {
  assertSize(options.sizeBytes)
  await makeDisk(folder, options, options.sizeBytes, (data) => data.truncate(options.sizeBytes))
}

/**
 * Creates a disk with the content of a raw image or block device. Holes stay holes; where the file system can, the
 * image is cloned rather than copied. Nobody may write to the image meanwhile.
 */
export async function importDisk(folder: string, imagePath: string, options: CreateOptions = {}): Promise<void> {
  const files = options.files ?? nodeFiles
  const image = await openImage(files, imagePath)
  try {
    const bytes = await image.size()
    const sizeBytes = Math.ceil(bytes / 512) * 512
    assertSize(sizeBytes)
    await makeDisk(folder, options, sizeBytes, async (data) => {
      await copyImage(image, data, bytes)
      await data.truncate(sizeBytes)
    })
  } finally {
    await image.close()
  }
}

async function openImage(files: Files, path: string): Promise<FileHandle> {
  try {
    return await files.open(path, 'read')
  } catch (error) {
    throw new RefpointError('io', `cannot read the image ${path}: ${(error as Error).message}`, { cause: error })
  }
}

async function copyImage(image: FileHandle, data: FileHandle, bytes: number): Promise<void> {
  const native = await loadNative()
  if (native?.cloneFile(data.fd, image.fd) === true) return
  await data.truncate(bytes)
  for (const page of dataExtents(image.fd, { offset: 0, length: bytes }, native)) {
    for (const extent of page) {
      if (extent.kind === 'zero') continue
      for (let at = extent.offset; at < extent.offset + extent.length; at += copyBytes) {
        const piece = Buffer.alloc(Math.min(copyBytes, extent.offset + extent.length - at))
        await image.read(piece, at)
        if (piece.some((byte) => byte !== 0)) await data.write([piece], at)
      }
    }
  }
}

async function makeDisk(
  folder: string,
  options: CreateOptions,
  sizeBytes: number,
  fill: (data: FileHandle) => Promise<void>,
): Promise<void> {
  const files = options.files ?? nodeFiles
  const blockBytes = options.blockBytes ?? defaultBlockBytes
  assertBlockBytes(blockBytes)
  const made = await makeEmptyFolder(files, folder)
  try {
    const data = await files.open(dataPath(folder, 0), 'create')
    try {
      await fill(data)
      await data.sync()
    } finally {
      await data.close()
    }
    await createMapFile({ files, folder, sizeBytes, blockBytes }, 0)
    const generations = await files.open(generationsPath(folder), 'create')
    await generations.sync()
    await generations.close()
    await files.syncFolder(folder)
    await writeDiskFile(files, folder, {
      format: 1,
      uuid: randomUUID(),
      sizeBytes,
      blockBytes,
      generation: 1,
      nextLayer: 1,
      layers: [{ id: 0 }],
      intent: null,
    })
    await files.syncFolder(dirname(resolve(folder)))
  } catch (error) {
    await removeLayerFiles(files, folder, 0).catch(() => undefined)
    await files.unlink(generationsPath(folder)).catch(() => undefined)
    if (made) await files.removeFolder(folder).catch(() => undefined)
    throw error
  }
}

/** True when it was made, false when it was there and empty. */
async function makeEmptyFolder(files: Files, folder: string): Promise<boolean> {
  try {
    await files.makeFolder(folder)
    return true
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (code === 'ENOENT') {
      throw new RefpointError('usage', `${dirname(resolve(folder))} does not exist`, { cause: error })
    }
    if (code !== 'EEXIST') {
      throw new RefpointError('io', `cannot create ${folder}: ${(error as Error).message}`, { cause: error })
    }
  }
  if (isFolder(folder) && (await files.list(folder)).length === 0) return false
  throw new RefpointError('usage', `${folder} already exists and is not empty`, {
    hint: 'Give the path of a new folder for the disk.',
    fields: { folder },
  })
}

function isFolder(path: string): boolean {
  const fd = openSync(path, 'r')
  try {
    return fstatSync(fd).isDirectory()
  } finally {
    closeSync(fd)
  }
}

function assertBlockBytes(blockBytes: number): void {
  const ok = blockBytes >= 4096 && blockBytes <= 1024 * 1024 && Number.isInteger(Math.log2(blockBytes))
  if (ok) return
  throw new RefpointError('usage', `a block cannot have ${blockBytes} bytes`, {
    hint: 'The block size is a power of two from 4 KiB to 1 MiB.',
  })
}
