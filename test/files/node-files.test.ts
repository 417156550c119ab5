import { readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { loadNative } from '../../src/files/native.js'
import { nodeFiles } from '../../src/files/node-files.js'
import { dataExtents } from '../../src/files/sparse.js'
import { temporaryFolder } from '../temporary.js'

describe('node files', () => {
  it('creates only what is not there, private to the user', async () => {
    const folder = join(temporaryFolder(), 'f')
    await nodeFiles.makeFolder(folder)
    const file = await nodeFiles.open(join(folder, 'a'), 'create')
    await file.close()
    await file.close()
    expect(statSync(folder).mode & 0o777).toBe(0o700)
    expect(statSync(file.path).mode & 0o777).toBe(0o600)
    await expect(nodeFiles.open(file.path, 'create')).rejects.toMatchObject({ code: 'EEXIST' })
    await expect(nodeFiles.open(join(folder, 'b'), 'write')).rejects.toMatchObject({ code: 'ENOENT' })
    await expect(nodeFiles.link(file.path, file.path)).rejects.toMatchObject({ code: 'EEXIST' })
    expect(await nodeFiles.exists(file.path)).toBe(true)
    expect(await nodeFiles.exists(join(file.path, 'c'))).toBe(false)
    await nodeFiles.syncFolder(folder)
  })

  it('writes more pieces than one call takes, at an offset, and reads short only at the end', async () => {
    const file = await nodeFiles.open(join(temporaryFolder(), 'a'), 'create')
    const pieces = Array.from({ length: 3000 }, (_, index) => new Uint8Array(index % 7).fill(index & 255))
    await file.write(pieces, 5)
    await file.sync()
    const expected = Buffer.concat([Buffer.alloc(5), ...pieces])
    expect(readFileSync(file.path).equals(expected)).toBe(true)
    const into = new Uint8Array(100)
    expect(await file.read(into, expected.length - 10)).toBe(10)
    expect(Buffer.from(into.subarray(0, 10)).equals(expected.subarray(-10))).toBe(true)
    await file.close()
  })

  it('zeroes a range without changing the size, also past the end', async () => {
    const file = await nodeFiles.open(join(temporaryFolder(), 'a'), 'create')
    await file.write([new Uint8Array(300_000).fill(7)], 0)
    await file.zero(1000, 200_000)
    await file.zero(299_999, 100_000)
    const bytes = readFileSync(file.path)
    expect(await file.size()).toBe(300_000)
    expect(bytes.subarray(1000, 201_000).every((byte) => byte === 0)).toBe(true)
    expect([bytes[999], bytes[201_000], bytes[299_998], bytes[299_999]]).toEqual([7, 7, 7, 0])
    await file.close()
  })
})

describe('native calls', () => {
  it('tell data from holes', async () => {
    const native = await loadNative()
    expect(native).toBeDefined()
    const path = join(temporaryFolder(), 'sparse')
    writeFileSync(path, '')
    truncateSync(path, 8 * 2 ** 30)
    const file = await nodeFiles.open(path, 'write')
    await file.write([new Uint8Array(65536).fill(1)], 5 * 2 ** 30)
    const pages = [...dataExtents(file.fd, { offset: 0, length: 9 * 2 ** 30 }, native)]
    expect(pages.flat()).toEqual([
      { offset: 0, length: 5 * 2 ** 30, kind: 'zero' },
      { offset: 5 * 2 ** 30, length: 65536, kind: 'data' },
      { offset: 5 * 2 ** 30 + 65536, length: 4 * 2 ** 30 - 65536, kind: 'zero' },
    ])
    expect([...dataExtents(file.fd, { offset: 0, length: 10 }, undefined)].flat()).toEqual([
      { offset: 0, length: 10, kind: 'data' },
    ])
    await file.close()
  })

  it('lock: whole files, and byte ranges of open files', async () => {
    const native = await loadNative()
    if (native === undefined) throw new Error('no native calls here')
    const path = join(temporaryFolder(), 'locked')
    const one = await nodeFiles.open(path, 'create')
    const two = await nodeFiles.open(path, 'write')
    expect(native.lockFile(one.fd)).toBe(true)
    expect(native.lockFile(two.fd)).toBe(false)
    expect(native.ofdLock(one.fd, 100, 1, 'read')).toBe(true)
    expect(native.ofdTest(two.fd, 100, 1, 'read')).toBe(true)
    expect(native.ofdTest(two.fd, 100, 1, 'write')).toBe(false)
    expect(native.ofdLock(two.fd, 100, 1, 'write')).toBe(false)
    expect(native.ofdLock(one.fd, 100, 1, 'unlock')).toBe(true)
    expect(native.ofdLock(two.fd, 100, 1, 'write')).toBe(true)
    await two.close()
    await one.close()
    expect(() => native.lockFile(one.fd)).toThrow(expect.objectContaining({ code: 'EBADF', syscall: 'flock' }))
    expect(() => native.blockDeviceSize(0)).toThrow()
  })

  it('zero and clone, or say that the file system can not', async () => {
    const native = await loadNative()
    if (native === undefined) throw new Error('no native calls here')
    const folder = temporaryFolder()
    const from = await nodeFiles.open(join(folder, 'from'), 'create')
    const to = await nodeFiles.open(join(folder, 'to'), 'create')
    await from.write([new Uint8Array(8192).fill(3)], 0)
    const cloned = native.cloneFile(to.fd, from.fd)
    expect(await to.size()).toBe(cloned ? 8192 : 0)
    const zeroed = native.zeroRange(from.fd, 0, 4096)
    expect(readFileSync(from.path)[0]).toBe(zeroed ? 0 : 3)
    await from.close()
    await to.close()
  })
})
