import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { closeSync, fsyncSync, openSync, readFileSync, readdirSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { loadNative } from '../../../src/files/native.js'
import { describeWith } from '../../layers.js'
import { checkpointOf, contentOf, owner } from './checkpoint.js'
import { loopDevice, mountXfs } from './loop-mount.js'

function liveImage(folder: string, name: string): { path: string; fd: number } {
  const path = join(folder, name)
  writeFileSync(path, Buffer.alloc(4 << 20, name))
  const fd = openSync(path, 'r+')
  onTestFinished(() => closeSync(fd))
  return { path, fd }
}

describeWith(['loop-xfs'], 'live images on a file system that clones files', () => {
  test('one is a clone of one instant, whatever is written later, and leaves nothing', async () => {
    const { folder } = mountXfs()
    const { path, fd } = liveImage(folder, 'root.img')
    const before = readFileSync(path)
    await using checkpoint = await checkpointOf({ root: path })
    expect(checkpoint.consistency).toBe('crash')
    writeSync(fd, Buffer.alloc(1 << 20, 0xee), 0, 1 << 20, 1 << 20)
    writeSync(fd, 'grown', 8 << 20)
    expect((await contentOf(checkpoint.stores[0])).equals(before)).toBe(true)
    await expect(checkpoint.assertStable()).resolves.toBeUndefined()
    expect(readdirSync(folder)).toEqual(['root.img'])
  })

  test('one beside others that nobody writes to is still one instant', async () => {
    const { folder } = mountXfs()
    const { path } = liveImage(folder, 'root.img')
    const quiet = join(folder, 'data.img')
    writeFileSync(quiet, 'data')
    await using checkpoint = await checkpointOf({ root: path, data: quiet })
    expect(checkpoint.consistency).toBe('crash')
    writeFileSync(quiet, 'changed')
    await expect(checkpoint.assertStable()).rejects.toMatchObject({ message: expect.stringContaining('store data') })
  })

  test('two are not one instant: refused, or torn where allowed', async () => {
    const { folder } = mountXfs()
    const stores = { root: liveImage(folder, 'root.img').path, data: liveImage(folder, 'data.img').path }
    await expect(checkpointOf(stores)).rejects.toMatchObject({
      code: 'tracker',
      hint: expect.stringContaining('Several live images are not one instant, even as clones'),
    })
    await using checkpoint = await checkpointOf(stores, { allowTorn: true })
    expect(checkpoint.consistency).toBe('torn')
    expect(checkpoint.warnings).toHaveLength(2)
  })

  test('a run that is killed with its checkpoint open leaves neither clone nor lock', async () => {
    const { folder } = mountXfs()
    const { path } = liveImage(folder, 'root.img')
    const quiet = join(folder, 'data.img')
    writeFileSync(quiet, 'data')
    const tracker = join(import.meta.dirname, '..', '..', '..', 'dist', 'trackers', 'image', 'image-tracker.js')
    const script = `
      const { createImageTracker } = await import(${JSON.stringify(tracker)})
      const stores = { root: { path: process.argv[1] }, data: { path: process.argv[2] } }
      const options = { owner: ${JSON.stringify(owner)}, signal: new AbortController().signal }
      const checkpoint = await createImageTracker({ stores, allowTorn: false }).checkpoint(options)
      console.log(checkpoint.consistency)
      setInterval(() => {}, 1000)`
    const child = spawn(process.execPath, ['--input-type=module', '-e', script, path, quiet], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    onTestFinished(() => void child.kill('SIGKILL'))
    expect(String((await once(child.stdout, 'data'))[0]).trim()).toBe('crash')
    child.kill('SIGKILL')
    await once(child, 'exit')
    expect(readdirSync(folder).toSorted()).toEqual(['data.img', 'root.img'])
    const native = await loadNative()
    const fd = openSync(quiet, 'r+')
    expect(native?.ofdLock(fd, 201, 1, 'write')).toBe(true)
    closeSync(fd)
  })

  test('a clone that a killed run left is removed, one of another owner is not', async () => {
    const { folder } = mountXfs()
    const key = (machineUuid: string): string => {
      const id = JSON.stringify([owner.repositoryId, machineUuid])
      return createHash('sha256').update(id).digest('hex').slice(0, 16)
    }
    const left = `.refpoint-clone-${key(owner.machineUuid)}-00ff`
    const foreign = `.refpoint-clone-${key('another')}-00ff`
    for (const name of [left, foreign, 'root.img']) writeFileSync(join(folder, name), 'content')
    await using checkpoint = await checkpointOf({ root: join(folder, 'root.img') })
    expect(checkpoint.consistency).toBe('offline')
    expect(readdirSync(folder).toSorted()).toEqual([foreign, 'root.img'].toSorted())
  })
})

describeWith(['loop-xfs'], 'block devices', () => {
  test('one that is free is offline, and a write to it fails the run', async () => {
    const { device } = loopDevice(4 << 20)
    const fd = openSync(device, 'r+')
    writeSync(fd, Buffer.alloc(4096, 5), 0, 4096, 8192)
    closeSync(fd)
    await using checkpoint = await checkpointOf({ root: device })
    expect(checkpoint.consistency).toBe('offline')
    expect(checkpoint.stores[0]).toMatchObject({ sizeBytes: 4 << 20, logicalBlockBytes: 512 })
    const content = await contentOf(checkpoint.stores[0])
    expect(content.subarray(8192, 12288)).toEqual(Buffer.alloc(4096, 5))
    await expect(checkpoint.assertStable()).resolves.toBeUndefined()
    const writer = openSync(device, 'r+')
    writeSync(writer, 'x', 0)
    fsyncSync(writer)
    closeSync(writer)
    await expect(checkpoint.assertStable()).rejects.toThrow(`${device} was written while it was read`)
  })

  test('one that a process has open for writing is refused, though it could be opened exclusively', async () => {
    const { device } = loopDevice(1 << 20)
    const fd = openSync(device, 'r+')
    try {
      await expect(checkpointOf({ root: device })).rejects.toThrow(`pid ${process.pid}`)
    } finally {
      closeSync(fd)
    }
  })

  test('one that is mounted is refused, naming where', async () => {
    const { device, folder } = mountXfs()
    await expect(checkpointOf({ root: device })).rejects.toMatchObject({
      code: 'tracker',
      message: expect.stringContaining(`the file system mounted on ${folder}`),
    })
    await using checkpoint = await checkpointOf({ root: device }, { allowTorn: true })
    expect(checkpoint.consistency).toBe('torn')
  })

  test('the file under a loop device is refused as well', async () => {
    const { device, file } = loopDevice(1 << 20)
    await expect(checkpointOf({ root: file })).rejects.toThrow(`held for writing by loop device ${device}`)
  })
})
