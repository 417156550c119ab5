import { appendFileSync, mkdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { closeSync, ftruncateSync, openSync, symlinkSync, utimesSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { ChangeIdExpired } from '../../../src/model/errors.js'
import type { Extent } from '../../../src/model/extent.js'
import { createImageTracker } from '../../../src/trackers/image/image-tracker.js'
import { recall } from '../../recall.js'
import { temporaryFolder } from '../../temporary.js'
import { checkpointOf, contentOf, owner } from './checkpoint.js'

const signal = new AbortController().signal

function image(content: Buffer | string = Buffer.alloc(1 << 20, 'refpoint')): string {
  const path = join(temporaryFolder(), 'disk.img')
  writeFileSync(path, content)
  return path
}

/** Keeps a file open for writing, in this very process. */
function openForWriting(path: string): number {
  const fd = openSync(path, 'r+')
  onTestFinished(() => closeSync(fd))
  return fd
}

describe('images that nobody writes to', () => {
  test('are offline, stable and readable to their odd end', async () => {
    const root = image(Buffer.alloc(100_001, 'abc'))
    await using checkpoint = await checkpointOf({ root, data: image('small') })
    expect(checkpoint.consistency).toBe('offline')
    expect(checkpoint.warnings).toEqual([])
    expect(checkpoint.stores.map(({ name, sizeBytes }) => [name, sizeBytes])).toEqual([['root', 100_001], ['data', 5]])
    expect(checkpoint.stores[0]?.changeId).toBeUndefined()
    expect((await contentOf(checkpoint.stores[0])).equals(readFileSync(root))).toBe(true)
    await expect(checkpoint.assertStable()).resolves.toBeUndefined()
  })

  test('tell holes as zeroes and the rest as data, covering the range', async () => {
    const root = image('')
    const fd = openSync(root, 'r+')
    ftruncateSync(fd, 8 << 20)
    writeSync(fd, Buffer.alloc(1 << 20, 1), 0, 1 << 20, 4 << 20)
    closeSync(fd)
    await using checkpoint = await checkpointOf({ root })
    const extents: Extent[] = []
    const range = { offset: 1 << 20, length: 6 << 20 }
    for await (const page of checkpoint.stores[0]?.allocatedExtents(range, { signal }) ?? []) extents.push(...page)
    expect(extents).toEqual([
      { offset: 1 << 20, length: 3 << 20, kind: 'zero' },
      { offset: 4 << 20, length: 1 << 20, kind: 'data' },
      { offset: 5 << 20, length: 2 << 20, kind: 'zero' },
    ])
  })

  test('never say what changed: they are compared', async () => {
    await using checkpoint = await checkpointOf({ root: image() })
    const question = checkpoint.stores[0]?.changedExtents('any', { signal })
    await expect(question).rejects.toBeInstanceOf(ChangeIdExpired)
    await expect(question).rejects.toMatchObject({ reason: 'untracked' })
  })

  test('may be removed or replaced meanwhile: the checkpoint keeps the file itself', async () => {
    const root = image()
    const content = readFileSync(root)
    await using checkpoint = await checkpointOf({ root })
    rmSync(root)
    writeFileSync(root, 'another file')
    expect((await contentOf(checkpoint.stores[0])).equals(content)).toBe(true)
    await expect(checkpoint.assertStable()).resolves.toBeUndefined()
  })

  test('read as zeroes past their end, and past the size that the store has', async () => {
    const root = image(Buffer.alloc(100, 7))
    await using checkpoint = await checkpointOf({ root })
    const source = checkpoint.stores[0]?.source
    if (source?.kind !== 'file') throw new Error('not a file source')
    const { openFileSource } = await import('../../../src/trackers/image/file-source.js')
    const reader = openFileSource({ ...source, sizeBytes: 90 })
    const into = Buffer.alloc(50, 0xff)
    await reader.read(into, 80)
    expect(into).toEqual(Buffer.concat([Buffer.alloc(10, 7), Buffer.alloc(40)]))
    await reader.read(into, 4096)
    expect(into).toEqual(Buffer.alloc(50))
    await reader.close()
    await reader.close()
  })

  test('the size is told without a checkpoint, and through a symbolic link', async () => {
    const root = image(Buffer.alloc(4096))
    const link = `${root}.link`
    symlinkSync(root, link)
    await using tracker = createImageTracker({ stores: { root: { path: link } }, allowTorn: false })
    expect(await tracker.stores()).toEqual([{ name: 'root', sizeBytes: 4096, logicalBlockBytes: 512 }])
    await tracker.release({ point: 1, time: '', consistency: 'offline', changeIds: {} }, owner)
  })

  test('disposing twice, or disposing the tracker with the checkpoint open, closes once', async () => {
    const tracker = createImageTracker({ stores: { root: { path: image() } }, allowTorn: false })
    const first = await tracker.checkpoint({ owner, previous: undefined, recall, signal })
    await first[Symbol.asyncDispose]()
    await first[Symbol.asyncDispose]()
    const second = await tracker.checkpoint({ owner, previous: undefined, recall, signal })
    await tracker[Symbol.asyncDispose]()
    const source = second.stores[0]?.source
    expect(source?.kind === 'file' && statSync(source.path, { throwIfNoEntry: false })).toBeUndefined()
  })

  test('an aborted checkpoint rejects with the reason itself', async () => {
    const reason = new Error('enough')
    const tracker = createImageTracker({ stores: { root: { path: image() } }, allowTorn: false })
    const aborted = tracker.checkpoint({ owner, previous: undefined, recall, signal: AbortSignal.abort(reason) })
    await expect(aborted).rejects.toBe(reason)
  })
})

describe('an image that was written while it was read', () => {
  const changes: readonly (readonly [string, (path: string) => void])[] = [
    ['in place', (path) => writeSync(openForWriting(path), 'x', 4096)],
    ['at its end', (path) => appendFileSync(path, 'x')],
    ['by cutting it', (path) => truncateSync(path, 100)],
    ['in its time only', (path) => utimesSync(path, 1, 1)],
  ]
  test.each(changes)('%s fails the run', async (_how, change) => {
    const root = image()
    await using checkpoint = await checkpointOf({ root })
    change(root)
    await expect(checkpoint.assertStable()).rejects.toMatchObject({
      code: 'tracker',
      message: `store root: ${root} was written while it was read`,
      hint: expect.stringContaining('allow: [torn]'),
    })
  })

  test('is told even where torn is allowed, if the checkpoint promised more', async () => {
    const root = image()
    await using checkpoint = await checkpointOf({ root }, { allowTorn: true })
    expect(checkpoint.consistency).toBe('offline')
    appendFileSync(root, 'x')
    await expect(checkpoint.assertStable()).rejects.toMatchObject({ code: 'tracker' })
  })
})

describe('an image that somebody has open for writing', () => {
  test('is refused, naming who and what to do', async () => {
    const root = image()
    openForWriting(root)
    await expect(checkpointOf({ root })).rejects.toMatchObject({
      code: 'tracker',
      message: expect.stringMatching(new RegExp(`no stable instant.*store root: ${root} is held.*pid ${process.pid}`)),
      hint: expect.stringContaining('Shut the machine down'),
      fields: { stores: [{ store: 'root', path: root, holders: [expect.stringContaining(String(process.pid))] }] },
    })
  })

  test('is torn where that is allowed, with a warning, and then writing it fails nothing', async () => {
    const root = image()
    const fd = openForWriting(root)
    await using checkpoint = await checkpointOf({ root, data: image() }, { allowTorn: true, cloneFolder: '/proc' })
    expect(checkpoint.consistency).toBe('torn')
    expect(checkpoint.warnings).toEqual([expect.stringContaining('store root is torn')])
    writeSync(fd, 'x', 0)
    await expect(checkpoint.assertStable()).resolves.toBeUndefined()
  })
})

describe('a store that is no raw image', () => {
  const foreign: readonly (readonly [string, string])[] = [
    ['qcow2', 'QFI\xfb'], ['VMDK', 'KDMV'], ['VHDX', 'vhdxfile'], ['VHD', 'conectix'], ['VDI', '<<< Oracle'],
  ]
  test.each(foreign)('%s is refused with what to do, unless it is said to be raw', async (format, magic) => {
    const root = image(Buffer.concat([Buffer.from(magic, 'latin1'), Buffer.alloc(4096)]))
    await expect(checkpointOf({ root })).rejects.toMatchObject({
      code: 'tracker',
      message: `store root: ${root} is a ${format} image, not a raw one`,
      hint: expect.stringContaining('format: raw'),
    })
    await using checkpoint = await checkpointOf({ root }, { stores: { root: { path: root, format: 'raw' } } })
    expect(checkpoint.consistency).toBe('offline')
  })

  test('a folder, a pipe or nothing at all is told plainly', async () => {
    const folder = temporaryFolder()
    mkdirSync(join(folder, 'root'))
    await expect(checkpointOf({ root: join(folder, 'root') })).rejects.toThrow('neither a file nor a block device')
    await expect(checkpointOf({ root: '/dev/null' })).rejects.toThrow('neither a file nor a block device')
    await expect(checkpointOf({ good: image(), root: join(folder, 'gone') })).rejects.toMatchObject({
      code: 'tracker',
      message: `store root: ${join(folder, 'gone')} is not there`,
    })
  })
})
