import type { Disk } from './disk.js'
import { findCheckpoint } from './freeze.js'
import { createLayerFiles, type Layer, type LayerPlace, openLayer, removeLayerFiles } from './layer.js'
import { LayerStack } from './layer-stack.js'
import { blocksPerRegion } from './map-layout.js'

/**
 * Takes a disk back to the user's checkpoint `name`: discards every overlay above it and puts a fresh one on top, so
 * that the checkpoint still exists. Within `structure`, with draining paused, nobody reading or writing.
 *
 * Blocks that change back change: each block present in what is discarded gets a new generation in the layer that now
 * provides it. The decision is the first write of disk.json; whoever opens the disk after a crash finishes the rest.
 */
export async function rollBack(disk: Disk, name: string): Promise<void> {
  const index = findCheckpoint(disk, name)
  await disk.settle(disk.stack.layers)
  const discarded = disk.stack.layers.slice(index + 1)
  const id = disk.file.nextLayer
  const stamp = disk.generation + 1
  await createLayerFiles(disk.place, id)
  const fresh = await openLayer(disk.place, { id }, 'overlay')
  await disk.persist({
    ...disk.file,
    generation: stamp,
    nextLayer: id + 1,
    layers: [...disk.file.layers.slice(0, index + 1), { id }],
    intent: { kind: 'rollback', stamp, discarded: discarded.map((layer) => layer.id) },
  })
  await disk.quiesced('reads and writes', () =>
    disk.syncing(async () => {
      const kept: [Layer, ...Layer[]] = [disk.stack.base, ...disk.stack.layers.slice(1, index + 1)]
      await stampReverted(new LayerStack(kept, disk.blockBytes), discarded, stamp)
      await disk.persist({ ...disk.file, intent: null })
      disk.stack.layers = [...kept, fresh]
      disk.stack.target = fresh
      disk.generation = stamp
      for (const layer of discarded) await layer.close()
    }),
  )
  for (const layer of discarded) await removeLayerFiles(disk.files, disk.folder, layer.id)
}

/** Finishes a rollback that a crash interrupted; `stack` is as disk.json lists it, its top still empty. */
export async function redoRollback(
  place: LayerPlace,
  stack: LayerStack,
  intent: { readonly stamp: number; readonly discarded: readonly number[] },
): Promise<void> {
  const discarded: Layer[] = []
  try {
    for (const id of intent.discarded) discarded.push(await openLayer(place, { id }, 'overlay'))
    await stampReverted(stack, discarded, intent.stamp)
  } finally {
    for (const layer of discarded) await layer.close()
  }
}

async function stampReverted(stack: LayerStack, discarded: readonly Layer[], stamp: number): Promise<void> {
  const regions = stack.base.map.directory.regions
  for (let region = 0; region < regions; region += 1) {
    const present = new Uint8Array(blocksPerRegion)
    let any = false
    for (const { overlay } of discarded) {
      if (overlay?.mayHold(region) !== true) continue
      const page = await overlay.effective(region)
      for (let index = 0; index < blocksPerRegion; index += 1) if (page[index] !== 0) present[index] = 1
      any = true
    }
    if (any) await stampPresent(stack, region, present, stamp)
  }
  for (const layer of stack.layers) await layer.settle()
}

async function stampPresent(stack: LayerStack, region: number, present: Uint8Array, stamp: number): Promise<void> {
  const start = region * blocksPerRegion
  for (let index = 0; index < blocksPerRegion; index += 1) {
    if (present[index] === 0) continue
    let end = index
    while (end + 1 < blocksPerRegion && present[end + 1] === 1) end += 1
    for (const { first, last, layer } of await stack.providers(start + index, start + end)) {
      await layer.map.prepare(first, last, stamp)
      await layer.map.record(first, last, stamp)
      if (layer.map.pressed) await layer.snapshot()?.()
    }
    index = end
  }
}
