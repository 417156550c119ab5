import { existsSync, mkdirSync, readdirSync, rmSync, statSync, truncateSync, utimesSync, writeFileSync } from 'node:fs'
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import type { Files } from '../../src/files/files.js'
import { nodeFiles } from '../../src/files/node-files.js'
import { localRepository } from '../../src/repository/local/local-repository.js'
import { shippedModule, startChild } from '../child-process.js'
import { describeWith } from '../layers.js'
import { temporaryFolder } from '../temporary.js'

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)
const failWith = (code: string, syscall: string) => (): Promise<never> =>
  Promise.reject(Object.assign(new Error(code), { code, syscall }))

/** Files whose writing calls fail in one way. */
function failing(code: string, which: 'write' | 'sync'): Files {
  return {
    ...nodeFiles,
    async open(path, mode) {
      const handle = await nodeFiles.open(path, mode)
      return Object.assign(Object.create(handle), {
        fd: handle.fd,
        path: handle.path,
        close: () => handle.close(),
        write: which === 'write' ? failWith(code, 'writev') : handle.write.bind(handle),
        sync: which === 'sync' ? failWith(code, 'fdatasync') : handle.sync.bind(handle),
      })
    },
  }
}

describe('a local repository whose storage fails', () => {
  it.each([
    ['ENOSPC', 'write', 'full'],
    ['EIO', 'sync', 'kernel log'],
    ['EDQUOT', 'write', 'quota'],
  ] as const)('says what to do about %s, and leaves nothing', async (code, which, hint) => {
    const folder = temporaryFolder()
    const repository = localRepository(folder, { files: failing(code, which) })
    const told = {
      code: 'io',
      message: expect.stringContaining(code),
      hint: expect.stringContaining(hint),
      fields: expect.objectContaining({ code }),
    }
    await expect(repository.put('m/x', [bytes('x')])).rejects.toMatchObject(told)
    await expect(repository.claim('m/y', bytes('y'))).rejects.toMatchObject(told)
    expect(readdirSync(join(folder, 'm'))).toEqual([])
  })

  it('does not know whether it committed when the folder can not be synced', async () => {
    const folder = temporaryFolder()
    await localRepository(folder).put('m/other', [])
    const syncFolder: Files['syncFolder'] = (path) =>
      existsSync(join(path, 'x')) ? failWith('EIO', 'fsync')() : nodeFiles.syncFolder(path)
    const repository = localRepository(folder, { files: { ...nodeFiles, syncFolder } })
    await expect(repository.claim('m/x', bytes('x'))).rejects.toMatchObject({ code: 'commit-unknown' })
    await expect(repository.put('m/x', [bytes('x')])).rejects.toMatchObject({ code: 'io' })
    expect(readdirSync(join(folder, 'm'))).toEqual(['other', 'x'])
  })

  it('does not know whether it committed when the link failed unclearly, and knows when clearly', async () => {
    const folder = temporaryFolder()
    const withLink = (link: Files['link']) => localRepository(folder, { files: { ...nodeFiles, link } })
    const claim = (link: Files['link']) => withLink(link).claim('x', bytes('x'))
    await expect(claim(failWith('EIO', 'link'))).rejects.toMatchObject({ code: 'commit-unknown' })
    await expect(claim(failWith('EACCES', 'link'))).rejects.toMatchObject({ code: 'io' })
    await expect(claim(failWith('EPERM', 'link'))).rejects.toMatchObject({
      code: 'io',
      message: expect.stringContaining('no hard links'),
    })
    // The answer was lost, and the repeated call finds our own link.
    const repeated = claim(async (from, to) => {
      await nodeFiles.link(from, to)
      await nodeFiles.link(from, to)
    })
    expect(await repeated).toBe('created')
    expect(readdirSync(folder)).toEqual(['x'])
  })

  it('reports a failed write of a long stream, and stops reading it', async () => {
    const folder = temporaryFolder()
    let read = 0
    function* stream(): Generator<Uint8Array> {
      for (; read < 1000; read += 1) yield new Uint8Array(1024 * 1024)
    }
    const repository = localRepository(folder, { files: failing('ENOSPC', 'write') })
    await expect(repository.put('x', stream())).rejects.toMatchObject({ code: 'io' })
    expect(read).toBeLessThan(20)
    expect(readdirSync(folder)).toEqual([])
  })
})

describeWith(['loop-xfs'], 'a local repository on a small file system', () => {
  function mounted(): string {
    const folder = temporaryFolder()
    const image = join(folder, 'image')
    const mount = join(folder, 'mount')
    writeFileSync(image, '')
    truncateSync(image, 320 * 2 ** 20)
    mkdirSync(mount)
    run('mkfs.xfs', '-q', image)
    run('mount', '-o', 'loop', image, mount)
    onTestFinished(() => void spawnSync('umount', [mount]))
    return mount
  }
  function run(command: string, ...args: string[]): void {
    const { status, stderr } = spawnSync(command, args, { encoding: 'utf8' })
    expect(stderr + String(status)).toBe('0')
  }

  it('is told full in the middle of an archive, and works on when there is room', async () => {
    const mount = mounted()
    const repository = localRepository(mount)
    await repository.put('before', [bytes('before')])
    async function* stream(): AsyncGenerator<Uint8Array> {
      for (let i = 0; i < 400; i += 1) yield new Uint8Array(1024 * 1024).fill(i)
    }
    await expect(repository.put('m/archive', stream())).rejects.toMatchObject({
      code: 'io',
      message: expect.stringContaining('ENOSPC'),
      hint: expect.stringContaining('full'),
    })
    expect(readdirSync(join(mount, 'm'))).toEqual([])
    expect(await repository.put('m/archive', [bytes('small')])).toEqual({ name: 'm/archive', bytes: 5 })
    expect(await repository.read('before', 100)).toEqual(bytes('before'))
  })

  it('is told read-only', async () => {
    const mount = mounted()
    await localRepository(mount).put('a', [bytes('a')])
    run('mount', '-o', 'remount,ro', mount)
    const repository = localRepository(mount)
    await expect(repository.put('b', [bytes('b')])).rejects.toMatchObject({
      code: 'io',
      hint: expect.stringContaining('read-only'),
    })
    await expect(repository.claim('b', bytes('b'))).rejects.toMatchObject({ code: 'io' })
    await expect(repository.remove(['a'])).rejects.toMatchObject({ code: 'io' })
    expect(await repository.read('a', 1)).toEqual(bytes('a'))
  })
})

describe('several processes on one local repository', () => {
  const program = (folder: string, body: string): string => `
    import { localRepository } from ${shippedModule('repository/local/local-repository.js')}
    const repository = localRepository(${JSON.stringify(folder)})
    ${body}
  `

  it('claim each slot exactly once', async () => {
    const folder = temporaryFolder()
    const slots = 40
    const body = `
      await new Promise((resolve) => process.stdin.once('data', resolve))
      const won = []
      for (let slot = 0; slot < ${slots}; slot += 1) {
        const mine = new TextEncoder().encode(String(process.pid))
        if ((await repository.claim('points/' + slot, mine)) === 'created') won.push(slot)
      }
      console.log(JSON.stringify({ pid: process.pid, won }))
      process.exit(0)
    `
    const children = Array.from({ length: 4 }, () => startChild(program(folder, body)))
    for (const child of children) child.process.stdin?.write('go\n')
    const results = await Promise.all(
      children.map(async (child) => JSON.parse(await child.line()) as { pid: number; won: number[] }),
    )
    expect(results.flatMap(({ won }) => won).sort((a, b) => a - b)).toEqual(Array.from({ length: slots }, (_, i) => i))
    const repository = localRepository(folder)
    for (const { pid, won } of results) {
      for (const slot of won) expect(await repository.read(`points/${slot}`, 100)).toEqual(bytes(String(pid)))
    }
    expect(await repository.sweep('')).toBe(0)
    expect(readdirSync(join(folder, 'points'))).toHaveLength(slots)
  })

  it('sweep what a killed one left, and nothing of a living one', async () => {
    const folder = temporaryFolder()
    const body = `
      async function* stream() {
        yield new Uint8Array(5_000_000)
        console.log('writing')
        await new Promise((resolve) => process.stdin.once('data', resolve))
      }
      await repository.put('m/archives/x', stream())
      console.log('done')
      process.exit(0)
    `
    const [killed, living] = [startChild(program(folder, body)), startChild(program(folder, body))]
    await Promise.all([killed.line(), living.line()])
    killed.process.kill('SIGKILL')
    await killed.ended()
    const repository = localRepository(folder)
    expect(readdirSync(join(folder, 'm', 'archives'))).toHaveLength(2)
    expect(await repository.children('m/archives')).toEqual([])
    expect(await repository.sweep('m/points')).toBe(0)
    expect(await repository.sweep('m')).toBe(1)
    living.process.stdin?.write('go\n')
    expect(await living.line()).toBe('done')
    expect(readdirSync(join(folder, 'm', 'archives'))).toEqual(['x'])
    expect(statSync(join(folder, 'm', 'archives', 'x')).mode & 0o777).toBe(0o600)
  })

  it('sweep what another host left only after an hour of silence', async () => {
    const folder = temporaryFolder()
    const left = join(folder, '.tmp-0123456789abcdef-77-88-01234567-0123456789ab')
    writeFileSync(left, 'x')
    const repository = localRepository(folder)
    expect(await repository.sweep('')).toBe(0)
    const longAgo = Date.now() / 1000 - 2 * 3600
    utimesSync(left, longAgo, longAgo)
    expect(await repository.sweep('')).toBe(1)
    expect(readdirSync(folder)).toEqual([])
  })
})

it('refuses to write when its folder went away, rather than make a new one', async () => {
  const folder = join(temporaryFolder(), 'disk')
  mkdirSync(folder)
  const repository = localRepository(folder)
  await repository.put('a/b', [bytes('x')])
  rmSync(folder, { recursive: true })
  await expect(repository.put('a/c', [bytes('x')])).rejects.toMatchObject({ code: 'no-repository' })
  expect(existsSync(folder)).toBe(false)
})
