import { execFileSync } from 'node:child_process'
import {
  closeSync,
  cpSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { loadNative } from '../../../src/files/native.js'
import { createDisk, importDisk } from '../../../src/trackers/disk/create-disk.js'
import { DiskSet } from '../../../src/trackers/disk/disk-set.js'
import { createDiskTracker } from '../../../src/trackers/disk/disk-tracker.js'
import { FrozenStack } from '../../../src/trackers/disk/frozen-stack.js'
import { diskInfo, listDisks } from '../../../src/trackers/disk/info.js'
import { crashStates, materialise } from '../../crash-states.js'
import { recordFiles } from '../../recording-files.js'
import { recall } from '../../recall.js'
import { temporaryFolder } from '../../temporary.js'
import { changedBlocks, readFrozen } from './frozen-checks.js'
import { ServerProcess } from './server-process.js'

const blockBytes = 4096
const owner = { repositoryId: 'repository', machineUuid: 'machine' }
const signal = new AbortController().signal

async function makeDisk(sizeBytes = 1024 * 1024): Promise<string> {
  const folder = join(temporaryFolder(), 'disk')
  await createDisk(folder, { sizeBytes, blockBytes })
  return folder
}

async function open(folder: string, role: 'server' | 'alone' = 'server') {
  const set = await DiskSet.open([folder], { role })
  onTestFinished(() => set[Symbol.asyncDispose]())
  const [place = ''] = set.folders
  return { set, place, disk: set.disk(place) }
}

function trackerOf(folder: string) {
  return createDiskTracker({ stores: { a: folder } })
}

async function changeIdOf(folder: string): Promise<string> {
  await using taken = await trackerOf(folder).checkpoint({ owner, previous: undefined, recall, signal })
  return taken.stores[0]?.changeId ?? ''
}

async function changedOf(folder: string, since: string): Promise<{ offset: number; length: number }[]> {
  await using taken = await trackerOf(folder).checkpoint({ owner, previous: undefined, recall, signal })
  const pages = await taken.stores[0]?.changedExtents(since, { signal })
  const ranges = []
  for await (const page of pages ?? []) ranges.push(...page)
  return ranges
}

async function writeTo(folder: string, offset: number, byte: number): Promise<void> {
  await using set = await DiskSet.open([folder], { role: 'server' })
  await set.disk(set.folders[0] ?? '').write([Buffer.alloc(100, byte)], offset)
}

test('of a disk folder that was copied, and both written on, each is unknown to the other', async () => {
  const folder = await makeDisk()
  await writeTo(folder, 0, 1)
  const common = await changeIdOf(folder)
  const copy = join(temporaryFolder(), 'copy')
  cpSync(folder, copy, { recursive: true })
  await writeTo(folder, 8192, 2)
  await writeTo(copy, 16_384, 3)
  const ours = await changeIdOf(folder)
  const theirs = await changeIdOf(copy)
  expect(await changedOf(folder, common)).toEqual([{ offset: 8192, length: blockBytes }])
  expect(await changedOf(copy, common)).toEqual([{ offset: 16_384, length: blockBytes }])
  await expect(changedOf(folder, theirs)).rejects.toMatchObject({ name: 'ChangeIdExpired', reason: 'unknown' })
  await expect(changedOf(copy, ours)).rejects.toMatchObject({ name: 'ChangeIdExpired', reason: 'unknown' })
})

test('a folder set back to an old copy does not know later points, also after it was written on', async () => {
  const folder = await makeDisk()
  const old = join(temporaryFolder(), 'old')
  cpSync(folder, old, { recursive: true })
  const since = await changeIdOf(folder)
  await expect(changedOf(old, since)).rejects.toMatchObject({ name: 'ChangeIdExpired' })
  await expect(changedOf(old, since)).rejects.toMatchObject({ name: 'ChangeIdExpired', reason: 'unknown' })
})

test('rolling back to before the last point tells exactly what changed back', async () => {
  const { set, place, disk } = await open(await makeDisk())
  await disk.write([Buffer.alloc(3 * blockBytes, 1)], 0)
  await set.checkpointAs('before', [place])
  await disk.write([Buffer.alloc(100, 2)], blockBytes)
  const point = await set.checkpoint([place])
  point.release()
  await disk.write([Buffer.alloc(100, 3)], 50 * blockBytes)
  await set.rollback(place, 'before')
  const after = await set.checkpoint([place])
  const [frozen] = after.disks
  if (frozen === undefined) throw new Error('no disk frozen')
  expect(changedBlocks(frozen, point.disks[0]?.changeId ?? '')).toEqual(new Set([1, 50]))
  const content = readFrozen(frozen)
  expect(content.subarray(0, 3 * blockBytes).equals(Buffer.alloc(3 * blockBytes, 1))).toBe(true)
  expect(content.subarray(3 * blockBytes).every((byte) => byte === 0)).toBe(true)
  after.release()
})

test('a disk that shrank and grew back reads zeroes there, and tells so since every point', async () => {
  const { set, place, disk } = await open(await makeDisk(12 * 1024 * 1024))
  await disk.write([Buffer.alloc(blockBytes, 1)], 11 * 1024 * 1024)
  const point = await set.checkpoint([place])
  point.release()
  await set.resize(place, 1024 * 1024 + 512)
  await set.resize(place, 12 * 1024 * 1024)
  const after = await set.checkpoint([place])
  const [frozen] = after.disks
  if (frozen === undefined) throw new Error('no disk frozen')
  const told = changedBlocks(frozen, point.disks[0]?.changeId ?? '')
  expect(told).toEqual(new Set(Array.from({ length: 3072 - 256 }, (_, index) => 256 + index)))
  expect(readFrozen(frozen).every((byte) => byte === 0)).toBe(true)
  after.release()
})

test('a second server is refused, and told who has the disk', async () => {
  const folder = await makeDisk()
  const socket = join(temporaryFolder(), 'run', 'nbd.sock')
  mkdirSync(join(socket, '..'), { mode: 0o700 })
  const server = await ServerProcess.start(socket, [folder])
  await expect(DiskSet.open([folder], { role: 'server' })).rejects.toMatchObject({
    code: 'locked',
    message: expect.stringMatching(/in use by process \d+/),
  })
  await server.kill()
  const { disk } = await open(folder)
  expect(disk.sizeBytes).toBe(1024 * 1024)
})

test('a 10 TiB disk is made at once, and to learn that nothing changed only its directory is read', async () => {
  const folder = await makeDisk(10 * 2 ** 40)
  const { set, place, disk } = await open(folder)
  await disk.write([Buffer.alloc(512, 1)], 7 * 2 ** 40)
  const first = await set.checkpoint([place])
  first.release()
  const second = await set.checkpoint([place])
  const [frozen] = second.disks
  if (frozen === undefined) throw new Error('no disk frozen')
  const stack = new FrozenStack(frozen.source, await loadNative())
  expect([...stack.changedSince(2)]).toEqual([])
  // 4 KiB blocks: 2,621,440 regions of eight bytes in each of the two or three layers.
  const directoryBytes = 2_621_440 * 8 + 4096
  expect(stack.mapBytesRead).toBeLessThanOrEqual(directoryBytes * frozen.source.layers.length)
  expect([...stack.changedSince(0)]).toEqual([[{ offset: 7 * 2 ** 40, length: blockBytes }]])
  stack.close()
  second.release()
  const { allocatedBytes } = await diskInfo(folder)
  expect(allocatedBytes).toBeLessThan(1024 * 1024)
})

test('trimming and zeroing what is a hole already changes nothing', async () => {
  if ((await loadNative()) === undefined) return expect(await loadNative()).toBeUndefined()
  const { set, place, disk } = await open(await makeDisk())
  await disk.write([Buffer.alloc(100, 1)], 5 * blockBytes)
  const point = await set.checkpoint([place])
  point.release()
  while (disk.stack.layers.length > 1) await new Promise((resolve) => setTimeout(resolve, 1))
  await disk.trim(6 * blockBytes, 100 * blockBytes)
  await disk.zero(0, 4 * blockBytes)
  const after = await set.checkpoint([place])
  const [frozen] = after.disks
  if (frozen === undefined) throw new Error('no disk frozen')
  expect(changedBlocks(frozen, point.disks[0]?.changeId ?? '')).toEqual(new Set())
  after.release()
})

test('an image is imported with its holes', async () => {
  const root = temporaryFolder()
  const image = join(root, 'image')
  const fd = openSync(image, 'w')
  ftruncateSync(fd, 64 * 1024 * 1024)
  writeSync(fd, Buffer.alloc(10_000, 7), 0, 10_000, 33_333_333)
  closeSync(fd)
  await importDisk(join(root, 'disk'), image)
  const info = await diskInfo(join(root, 'disk'))
  expect(info.sizeBytes).toBe(64 * 1024 * 1024)
  expect(info.allocatedBytes).toBeLessThan(4 * 1024 * 1024)
  const { disk } = await open(join(root, 'disk'))
  const content = Buffer.alloc(info.sizeBytes)
  await disk.read(content, 0)
  expect(content.equals(readFileSync(image))).toBe(true)
})

function refusal(code: string, words: string): object {
  return { code, message: expect.stringContaining(words) }
}

test('says plainly what is wrong', async () => {
  const folder = await makeDisk()
  const { set, place } = await open(folder)
  await set.checkpointAs('monday', [place])
  await expect(set.checkpointAs('monday', [place])).rejects.toMatchObject(refusal('usage', 'already has'))
  await expect(set.rollback(place, 'mondey')).rejects.toMatchObject({ code: 'usage', hint: 'It has: monday.' })
  await expect(set.merge(place, 'x')).rejects.toMatchObject({ code: 'usage' })
  await expect(set.checkpointAs('../x', [place])).rejects.toMatchObject({ code: 'usage' })
  await expect(set.resize(place, 2 * 1024 * 1024)).rejects.toMatchObject(refusal('tracker', 'monday'))
  await expect(createDisk(folder, { sizeBytes: 512 })).rejects.toMatchObject(refusal('usage', 'not empty'))
  await expect(createDisk(`${folder}2`, { sizeBytes: 513 })).rejects.toMatchObject({ code: 'usage' })
  await expect(createDisk(`${folder}2`, { sizeBytes: 512, blockBytes: 5000 })).rejects.toMatchObject({ code: 'usage' })
  await expect(importDisk(`${folder}2`, `${folder}/nothing`)).rejects.toMatchObject({ code: 'io' })
  await expect(DiskSet.open([temporaryFolder()], { role: 'alone' })).rejects.toMatchObject({
    code: 'tracker',
    message: expect.stringContaining('not a tracked disk'),
  })
  const broken = await makeDisk()
  writeFileSync(join(broken, 'disk.json'), '{"format":2}')
  await expect(diskInfo(broken)).rejects.toMatchObject({ code: 'damaged' })
  const mapless = await makeDisk()
  writeFileSync(join(mapless, 'layer-0.map'), 'no map')
  await expect(DiskSet.open([mapless], { role: 'alone' })).rejects.toMatchObject({ code: 'damaged' })
})

test('lists the disks of a folder with their checkpoints', async () => {
  const root = temporaryFolder()
  for (const name of ['b', 'a']) await createDisk(join(root, name), { sizeBytes: 512 })
  mkdirSync(join(root, 'other'))
  const { set, place } = await open(join(root, 'a'))
  await set.checkpointAs('one', [place])
  const disks = await listDisks(root)
  expect(disks.map(({ folder, checkpoints }) => [folder, checkpoints.map(({ name }) => name)])).toEqual([
    [join(root, 'a'), ['one']],
    [join(root, 'b'), []],
  ])
})

test('merging a named checkpoint gives its space back and keeps what is above it', async () => {
  const folder = await makeDisk()
  const { set, place, disk } = await open(folder)
  await disk.write([Buffer.alloc(10 * blockBytes, 1)], 0)
  await set.checkpointAs('a', [place])
  await disk.write([Buffer.alloc(blockBytes, 2)], 0)
  await set.checkpointAs('b', [place])
  await disk.write([Buffer.alloc(blockBytes, 3)], blockBytes)
  expect(await set.merge(place, 'a')).toEqual({ pending: false })
  await set.rollback(place, 'b')
  const content = Buffer.alloc(3 * blockBytes)
  await disk.read(content, 0)
  expect([content[0], content[blockBytes], content[2 * blockBytes]]).toEqual([2, 1, 1])
  await set.merge(place, 'b')
  expect((await diskInfo(folder)).layers).toBe(1)
  expect(execFileSync('ls', [folder], { encoding: 'utf8' }).match(/layer-\d+\.raw/g)).toHaveLength(1)
  expect(statSync(join(folder, 'layer-0.raw')).size).toBe(disk.sizeBytes)
})

test('a power cut at any moment of a resize leaves the old or the new size, and tells what changed', async () => {
  const root = temporaryFolder()
  const recording = recordFiles(root)
  const { files } = recording
  const folder = join(root, 'disk')
  const sizes = [40 * blockBytes, 20 * blockBytes + 512, 60 * blockBytes]
  await createDisk(folder, { sizeBytes: sizes[0] ?? 0, blockBytes, files })
  const set = await DiskSet.open([folder], { role: 'server', files })
  const disk = set.disk(folder)
  await disk.write([Buffer.alloc(40 * blockBytes, 1)], 0)
  const point = await set.checkpoint([folder])
  point.release()
  const before = recording.now()
  for (const size of sizes.slice(1)) await set.resize(folder, size)
  await set[Symbol.asyncDispose]()
  for (const state of crashStates(recording, { seed: 5, from: before, limit: 80 })) {
    const into = temporaryFolder()
    materialise(recording, state, into)
    await using reopened = await DiskSet.open([join(into, 'disk')], { role: 'alone' })
    const taken = await reopened.checkpoint(reopened.folders)
    const [frozen] = taken.disks
    if (frozen === undefined) throw new Error('no disk frozen')
    const content = readFrozen(frozen)
    expect(sizes).toContain(content.length)
    const told = changedBlocks(frozen, point.disks[0]?.changeId ?? '')
    for (let block = 0; block < Math.ceil(content.length / blockBytes); block += 1) {
      const from = block * blockBytes
      const same = content.subarray(from, from + blockBytes).equals(Buffer.alloc(blockBytes, 1))
      if (!same) expect(told.has(block), `block ${block} at cut ${state.cut}`).toBe(true)
    }
    taken.release()
  }
})
