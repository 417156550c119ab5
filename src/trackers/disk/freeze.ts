import { RefpointError } from '../../model/errors.js'
import { formatChangeId } from './change-id.js'
import type { Disk } from './disk.js'
import type { DiskFile } from './disk-file.js'
import { assignNonce } from './generations.js'
import { createLayerFiles, type Layer, openLayer, removeLayerFiles } from './layer.js'

/** A fresh overlay that is on disk, and in disk.json, but does not take writes yet. */
export interface NextTop {
  readonly layer: Layer
  readonly before: DiskFile
}

export interface FreezeOptions {
  /** A user's checkpoint: the overlay stays until it is merged or rolled back to. */
  readonly name: string | undefined
  readonly time: Date
}

/**
 * First step of a checkpoint, within `structure`: puts an empty overlay on top and begins the next generation, on disk.
 * A crash from here on finds an empty overlay, and a generation that ended without anybody having been told of it.
 */
export async function prepareTop(disk: Disk, { name, time }: FreezeOptions): Promise<NextTop> {
  const before = disk.file
  const id = before.nextLayer
  const frozen = before.layers.map((record, index) =>
    name === undefined || index < before.layers.length - 1 ? record : { ...record, name, time: time.toISOString() },
  )
  let layer: Layer | undefined
  try {
    await createLayerFiles(disk.place, id)
    layer = await openLayer(disk.place, { id }, 'overlay')
    await disk.persist({ ...before, generation: before.generation + 1, nextLayer: id + 1, layers: [...frozen, { id }] })
    return { layer, before }
  } catch (error) {
    await layer?.close()
    if (disk.file === before) await removeLayerFiles(disk.files, disk.folder, id).catch(() => undefined)
    throw error
  }
}

/** The instant, while nobody writes: from here on writes go to the fresh overlay, of the next generation. */
export function switchTop(disk: Disk, { layer }: NextTop): void {
  disk.stack.layers.forEach((frozen, index) => {
    frozen.record = disk.file.layers[index] ?? frozen.record
  })
  disk.stack.layers = [...disk.stack.layers, layer]
  disk.stack.target = layer
  disk.generation = disk.file.generation
}

/** Takes back `prepareTop`. The new generation was not used by anything, so it may come again. */
export async function abandonTop(disk: Disk, { layer, before }: NextTop): Promise<void> {
  await disk.persist({ ...before, nextLayer: layer.id + 1 })
  await layer.close()
  await removeLayerFiles(disk.files, disk.folder, layer.id)
}

/** Ends the generation of a disk that takes no writes, without an overlay. Returns the generation that ended. */
export async function endGeneration(disk: Disk): Promise<number> {
  const ended = disk.generation
  await disk.persist({ ...disk.file, generation: ended + 1 })
  disk.generation = ended + 1
  return ended
}

/** Last step of a checkpoint: the frozen layers become durable and exact, and only then the instant gets its name. */
export async function nameInstant(disk: Disk, frozen: readonly Layer[], generation: number): Promise<string> {
  await disk.settle(frozen)
  const nonce = await assignNonce(disk.files, disk.folder, generation)
  return formatChangeId({ uuid: disk.file.uuid, generation, nonce })
}

/** Names of a user's checkpoints on a disk, oldest first. */
export function checkpointNames(file: DiskFile): string[] {
  return file.layers.flatMap(({ name }) => (name === undefined ? [] : [name]))
}

/** @throws RefpointError `usage` when the name is malformed or taken. */
export function assertNewName(disk: Disk, name: string): void {
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(name)) {
    throw new RefpointError('usage', `"${name}" cannot name a checkpoint`, {
      hint: 'Use up to 64 letters, digits, dots, dashes and underscores, starting with a letter or a digit.',
    })
  }
  if (!checkpointNames(disk.file).includes(name)) return
  throw new RefpointError('usage', `${disk.folder} already has a checkpoint "${name}"`, {
    hint: 'Choose another name, or merge the old checkpoint first.',
  })
}

/** The index of the layer that the named checkpoint froze. @throws RefpointError `usage`, with the names there are. */
export function findCheckpoint(disk: Disk, name: string): number {
  const index = disk.file.layers.findIndex((layer) => layer.name === name)
  if (index >= 0) return index
  const names = checkpointNames(disk.file)
  throw new RefpointError('usage', `${disk.folder} has no checkpoint "${name}"`, {
    hint: names.length === 0 ? 'It has none at all.' : `It has: ${names.join(', ')}.`,
    fields: { folder: disk.folder, checkpoints: names },
  })
}
