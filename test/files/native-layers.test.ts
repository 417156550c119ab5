import { spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { loadNative, type Native } from '../../src/files/native.js'
import { nodeFiles } from '../../src/files/node-files.js'
import { shippedModule, startChild } from '../child-process.js'
import { describeWith } from '../layers.js'
import { temporaryFolder } from '../temporary.js'

async function native(): Promise<Native> {
  const loaded = await loadNative()
  if (loaded === undefined) throw new Error('no native calls here')
  return loaded
}

function run(command: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8' })
  expect(stderr + String(status)).toBe('0')
  return stdout.trim()
}

function sparseFile(folder: string, sizeBytes: number): string {
  const path = join(folder, 'image')
  writeFileSync(path, '')
  truncateSync(path, sizeBytes)
  return path
}

describeWith(['loop-xfs'], 'native calls on real layers', () => {
  it('clone a file on a file system that can, sharing its space', async () => {
    const folder = temporaryFolder()
    const image = sparseFile(folder, 320 * 2 ** 20)
    const mount = join(folder, 'mount')
    mkdirSync(mount)
    run('mkfs.xfs', '-q', '-m', 'reflink=1', image)
    run('mount', '-o', 'loop', image, mount)
    onTestFinished(() => void spawnSync('umount', [mount]))
    const from = await nodeFiles.open(join(mount, 'from'), 'create')
    const to = await nodeFiles.open(join(mount, 'to'), 'create')
    const elsewhere = await nodeFiles.open(join(folder, 'elsewhere'), 'create')
    const content = new Uint8Array(64 * 2 ** 20).fill(5)
    await from.write([content], 0)
    const { cloneFile } = await native()
    expect(cloneFile(elsewhere.fd, from.fd)).toBe(false)
    expect(cloneFile(to.fd, from.fd)).toBe(true)
    await from.write([new Uint8Array(4096).fill(6)], 0)
    expect(readFileSync(to.path).equals(content)).toBe(true)
    for (const file of [from, to, elsewhere]) await file.close()
  })

  it('tell the size of a block device, with and without the package', async () => {
    const image = sparseFile(temporaryFolder(), 7 * 2 ** 20)
    const device = run('losetup', '-f', '--show', image)
    onTestFinished(() => void spawnSync('losetup', ['-d', device]))
    const handle = await nodeFiles.open(device, 'write')
    expect((await native()).blockDeviceSize(handle.fd)).toBe(7 * 2 ** 20)
    expect(await handle.size()).toBe(7 * 2 ** 20)
    await handle.write([new Uint8Array(8192).fill(9)], 0)
    await handle.zero(4096, 1000)
    const into = new Uint8Array(8192)
    await handle.read(into, 0)
    expect([into[4095], into[4096], into[5095], into[5096]]).toEqual([9, 0, 0, 9])
    await handle.close()
    const child = startChild(`
      process.env.REFPOINT_NATIVE = 'off'
      const { nodeFiles } = await import(${shippedModule('files/node-files.js')})
      const handle = await nodeFiles.open(${JSON.stringify(device)}, 'read')
      console.log(await handle.size())
    `)
    expect(await child.line()).toBe(String(7 * 2 ** 20))
    expect(await child.ended()).toBe(0)
  })
})

it('does without native calls where they are switched off: zeroes are written, holes are data', async () => {
  const path = join(temporaryFolder(), 'file')
  writeFileSync(path, new Uint8Array(3_000_000).fill(8))
  const child = startChild(`
    process.env.REFPOINT_NATIVE = 'off'
    const { nodeFiles } = await import(${shippedModule('files/node-files.js')})
    const { loadNative } = await import(${shippedModule('files/native.js')})
    const handle = await nodeFiles.open(${JSON.stringify(path)}, 'write')
    await handle.zero(1000, 5_000_000)
    console.log(await loadNative())
  `)
  expect(await child.line()).toBe('undefined')
  expect(await child.ended()).toBe(0)
  const bytes = readFileSync(path)
  expect(bytes.length).toBe(3_000_000)
  expect(bytes.subarray(0, 1000).every((byte) => byte === 8)).toBe(true)
  expect(bytes.subarray(1000).every((byte) => byte === 0)).toBe(true)
  expect(statSync(path).size).toBe(3_000_000)
})
