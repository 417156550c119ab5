import type { Files } from '../../files/files.js'
import { loadNative } from '../../files/native.js'
import { nodeFiles } from '../../files/node-files.js'
import { Disk } from './disk.js'
import { type DiskFile, readDiskFile, writeDiskFile } from './disk-file.js'
import { Drain } from './drain.js'
import { type FolderLock, lockFolder } from './folder-lock.js'
import { type Layer, openLayer, removeLayerFiles } from './layer.js'
import { LayerStack } from './layer-stack.js'
import { applyResize } from './resize.js'
import { redoRollback } from './rollback.js'

/** A disk this process has open, and holds the lock of. */
export interface OpenDisk extends AsyncDisposable {
  readonly disk: Disk
  readonly drain: Drain
}

export interface OpenDiskOptions {
  readonly files?: Files
  /** Merge what nothing needs any more in the background, as a server does; else only when told to. */
  readonly background?: boolean
}

/**
 * Opens a disk for writing: takes its lock, finishes what a crash interrupted, removes what it left.
 * @throws RefpointError `locked`, `tracker` when it is no disk folder, `damaged`
 */
export async function openDisk(folder: string, options: OpenDiskOptions = {}): Promise<OpenDisk> {
  const files = options.files ?? nodeFiles
  await readDiskFile(files, folder)
  const lock = await lockFolder(folder)
  try {
    const native = await loadNative()
    const file = await readDiskFile(files, folder)
    await removeOrphans(files, folder, file)
    const opened = await openStack(files, folder, file)
    const disk = new Disk({ files, native, folder, ...opened })
    const drain = new Drain(disk, { native, background: options.background === true })
    drain.start()
    return { disk, drain, [Symbol.asyncDispose]: () => close(disk, drain, lock) }
  } catch (error) {
    await lock.release()
    throw error
  }
}

async function close(disk: Disk, drain: Drain, lock: FolderLock): Promise<void> {
  await drain.pause()
  try {
    await disk.close()
  } finally {
    await lock.release()
  }
}

async function openStack(files: Files, folder: string, file: DiskFile) {
  const place = { files, folder, sizeBytes: file.sizeBytes, blockBytes: file.blockBytes }
  const [baseRecord, ...overlayRecords] = file.layers
  if (baseRecord === undefined) throw new Error(`${folder}: no layers`)
  const layers: [Layer, ...Layer[]] = [await openLayer(place, baseRecord, 'base')]
  try {
    for (const record of overlayRecords) layers.push(await openLayer(place, record, 'overlay'))
    const { intent } = file
    if (intent === null) return { file, layers }
    if (intent.kind === 'rollback') {
      await redoRollback(place, new LayerStack(layers, file.blockBytes), intent)
    } else {
      const step = { from: file.sizeBytes, to: intent.sizeBytes, stamp: intent.stamp, blockBytes: file.blockBytes }
      await applyResize(layers[0], step)
    }
    const finished: DiskFile = {
      ...file,
      sizeBytes: intent.kind === 'resize' ? intent.sizeBytes : file.sizeBytes,
      intent: null,
    }
    await writeDiskFile(files, folder, finished)
    if (intent.kind === 'rollback') for (const id of intent.discarded) await removeLayerFiles(files, folder, id)
    return { file: finished, layers }
  } catch (error) {
    for (const layer of layers) await layer.close()
    throw error
  }
}

/** Layer files that disk.json does not speak of: of a checkpoint that did not come to be, or of a layer merged away. */
async function removeOrphans(files: Files, folder: string, file: DiskFile): Promise<void> {
  const known = new Set(file.layers.map(({ id }) => id))
  if (file.intent?.kind === 'rollback') for (const id of file.intent.discarded) known.add(id)
  for (const name of await files.list(folder)) {
    const id = /^layer-(\d+)\.(raw|map)$/.exec(name)?.[1]
    if (id !== undefined && !known.has(Number(id))) await removeLayerFiles(files, folder, Number(id))
  }
}
