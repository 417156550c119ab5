import { RefpointError } from '../../model/errors.js'
import type { Disk } from './disk.js'
import { checkpointNames } from './freeze.js'
import type { Layer } from './layer.js'
import { blocksPerRegion, blockCount, regionCount } from './map-layout.js'

/**
 * Changes a disk's size. Within `structure`, drained down to the base, nobody reading or writing. What lies above the
 * smaller size gets a new generation, so that a disk that shrank and grew back is known to read zeroes there.
 * The decision is the first write of disk.json; whoever opens the disk after a crash finishes the rest.
 */
export async function resizeDisk(disk: Disk, sizeBytes: number): Promise<void> {
  assertResizable(disk, sizeBytes)
  const { base } = disk.stack
  await disk.settle([base])
  const from = disk.sizeBytes
  const stamp = disk.generation + 1
  await disk.persist({ ...disk.file, generation: stamp, intent: { kind: 'resize', stamp, sizeBytes } })
  await disk.quiesced('reads and writes', () =>
    disk.syncing(async () => {
      await applyResize(base, { from, to: sizeBytes, stamp, blockBytes: disk.blockBytes })
      await disk.persist({ ...disk.file, sizeBytes, intent: null })
      disk.sizeBytes = sizeBytes
      disk.generation = stamp
    }),
  )
}

function assertResizable(disk: Disk, sizeBytes: number): void {
  assertSize(sizeBytes)
  const names = checkpointNames(disk.file)
  if (names.length > 0) {
    const what = `${disk.folder} cannot be resized while it has checkpoints: ${names.join(', ')}`
    throw new RefpointError('tracker', what, {
      hint: 'Merge them first with `refpoint disk merge`.',
      fields: { folder: disk.folder, checkpoints: names },
    })
  }
  if (disk.pins.size > 0 || disk.stack.layers.length > 1) {
    throw new RefpointError('locked', `${disk.folder} cannot be resized while a backup reads it`, {
      hint: 'Try again when the backup has ended.',
    })
  }
}

/** @throws RefpointError `usage` */
export function assertSize(sizeBytes: number): void {
  const most = 2 ** 48
  if (Number.isSafeInteger(sizeBytes) && sizeBytes >= 512 && sizeBytes <= most && sizeBytes % 512 === 0) return
  throw new RefpointError('usage', `a disk cannot have ${sizeBytes} bytes`, {
    hint: 'The size is a multiple of 512 bytes, from 512 bytes to 256 TiB.',
  })
}

export interface ResizeStep {
  readonly from: number
  readonly to: number
  readonly stamp: number
  readonly blockBytes: number
}

/** Idempotent: done again after a crash, it ends in the same state. */
export async function applyResize(base: Layer, { from, to, stamp, blockBytes }: ResizeStep): Promise<void> {
  const { directory } = base.map
  const blocks = blockCount(to, blockBytes)
  const firstStamped = Math.floor(Math.min(from, to) / blockBytes)
  const firstWhole = Math.ceil(firstStamped / blocksPerRegion)
  const lastAtEdge = Math.min(blocks, firstWhole * blocksPerRegion) - 1
  if (lastAtEdge >= firstStamped) {
    await directory.resize(Math.max(directory.regions, regionCount(to, blockBytes)))
    await base.map.prepare(firstStamped, lastAtEdge, stamp)
    await base.map.record(firstStamped, lastAtEdge, stamp)
    await base.settle()
  }
  await directory.resize(regionCount(to, blockBytes))
  const whole: number[] = []
  for (let region = firstWhole; region < directory.regions; region += 1) {
    directory.coarse[region] = stamp
    whole.push(region)
  }
  await directory.commit(whole)
  await base.data.truncate(Math.min(from, to))
  await base.data.truncate(to)
  await base.data.sync()
}
