import { join } from 'node:path'
import { expect, test } from 'vitest'
import { createDisk } from '../../../src/trackers/disk/create-disk.js'
import { DiskSet, type DiskCheckpoint } from '../../../src/trackers/disk/disk-set.js'
import { temporaryFolder } from '../../temporary.js'
import { changedBlocks } from './frozen-checks.js'

const blockBytes = 4096
const regionBytes = 1024 * blockBytes
/** More than the maps keep in memory. */
const regions = 5000

function sector(region: number, turn: number): Buffer {
  return Buffer.from(new Uint32Array(128).fill(region * 10 + turn).buffer)
}

async function writeAll(set: DiskSet, place: string, turn: number): Promise<void> {
  const disk = set.disk(place)
  for (let region = 0; region < regions; region += 50) {
    const writes = Array.from({ length: 50 }, (_, index) =>
      disk.write([sector(region + index, turn)], (region + index) * regionBytes + turn * blockBytes),
    )
    await Promise.all(writes)
  }
}

async function expectAll(set: DiskSet, place: string, turns: readonly number[]): Promise<void> {
  const disk = set.disk(place)
  for (const turn of turns) {
    for (let region = 0; region < regions; region += 1) {
      const found = Buffer.alloc(512)
      await disk.read(found, region * regionBytes + turn * blockBytes)
      if (!found.equals(sector(region, turn))) expect(found.readUInt32LE(0)).toBe(region * 10 + turn)
    }
  }
}

function changedSince(taken: DiskCheckpoint, earlier: DiskCheckpoint): Set<number> {
  const [frozen] = taken.disks
  const [then] = earlier.disks
  if (frozen === undefined || then === undefined) throw new Error('no disk frozen')
  return changedBlocks(frozen, then.changeId)
}

function blocksOf(turns: readonly number[]): Set<number> {
  return new Set(Array.from({ length: regions }, (_, region) => turns.map((turn) => region * 1024 + turn)).flat())
}

test('writes that touch more regions than the maps keep in memory are tracked to the block', async () => {
  const folder = join(temporaryFolder(), 'disk')
  await createDisk(folder, { sizeBytes: regions * regionBytes, blockBytes })
  let set = await DiskSet.open([folder], { role: 'server' })
  const [place = ''] = set.folders
  const first = await set.checkpoint([place])
  await writeAll(set, place, 1)
  const second = await set.checkpoint([place])
  expect(changedSince(second, first)).toEqual(blocksOf([1]))
  await writeAll(set, place, 2)
  await expectAll(set, place, [1, 2])
  first.release()
  second.release()
  while (set.disk(place).stack.layers.length > 1) await new Promise((resolve) => setTimeout(resolve, 5))
  await writeAll(set, place, 3)
  const third = await set.checkpoint([place])
  expect(changedSince(third, second)).toEqual(blocksOf([2, 3]))
  expect(changedSince(third, first)).toEqual(blocksOf([1, 2, 3]))
  third.release()
  await set[Symbol.asyncDispose]()

  set = await DiskSet.open([folder], { role: 'alone' })
  await expectAll(set, place, [1, 2, 3])
  const fourth = await set.checkpoint([place])
  expect(changedSince(fourth, third)).toEqual(new Set())
  expect(changedSince(fourth, second)).toEqual(blocksOf([2, 3]))
  fourth.release()
  await set[Symbol.asyncDispose]()
})
