import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { Command } from 'commander'
import { describe, expect, onTestFinished, test } from 'vitest'
import { diskCommand } from '../../src/cli/disk.js'
import { diskActions } from '../../src/compose-disk.js'
import { describeWith } from '../layers.js'
import { temporaryFolder } from '../temporary.js'
import { capture } from './captured.js'

const run = promisify(execFile)

interface Ran {
  readonly text: string
  readonly json: unknown
  readonly events: readonly Record<string, unknown>[]
}

/** Runs `refpoint disk …` in this process, once as text or with --json. */
async function disk(args: readonly string[], { json = false } = {}): Promise<Ran> {
  const { signal } = new AbortController()
  const { output, stdout, stderr } = capture({ json })
  const program = new Command('refpoint').exitOverride()
  program.addCommand(diskCommand({ output: () => output, signal }, async () => diskActions))
  await program.parseAsync(['disk', ...args], { from: 'user' })
  const lines = stderr().split('\n').filter((line) => json && line !== '')
  return {
    text: stdout(),
    json: json && stdout() !== '' ? JSON.parse(stdout()) : undefined,
    events: lines.map((line): Record<string, unknown> => JSON.parse(line)),
  }
}

/** Not synchronous: the server that it talks to lives in this process. */
async function client(uri: string, ...commands: string[]): Promise<string> {
  const { stdout, stderr } = await run('qemu-io', ['-f', 'raw', ...commands.flatMap((command) => ['-c', command]), uri])
  return stdout + stderr
}

describe('refpoint disk', () => {
  test('create, info and list tell what there is', async () => {
    const folder = temporaryFolder()
    const root = join(folder, 'root')
    expect((await disk(['create', root, '--size', '1GiB'])).text).toContain(`Created ${root}: 1 GiB.`)
    const create = ['create', join(folder, 'data'), '--size', '10G', '--block-size', '64KiB']
    const { json } = await disk(create, { json: true })
    expect(json).toMatchObject({ sizeBytes: 10 * 2 ** 30, blockBytes: 65_536, checkpoints: [], serverPid: null })
    const info = await disk(['info', root])
    expect(info.text).toMatch(/^size +1 GiB \(1073741824 bytes\)$/m)
    expect(info.text).toMatch(/^served +no$/m)
    const list = await disk(['list', folder])
    expect(list.text.split('\n').map((line) => line.split(/ {2,}/).slice(0, 2).join(' '))).toEqual([
      'disk size', `${join(folder, 'data')} 10 GiB`, `${root} 1 GiB`, '',
    ])
    const empty = join(folder, 'empty')
    mkdirSync(empty)
    expect((await disk(['list', empty])).text).toBe(`No disks in ${empty}.\n`)
    expect((await disk(['list', empty], { json: true })).json).toEqual([])
  })

  test('import takes a raw image', async () => {
    const folder = temporaryFolder()
    writeFileSync(join(folder, 'root.img'), Buffer.alloc(1 << 20, 'refpoint'))
    const { text } = await disk(['import', join(folder, 'root.img'), join(folder, 'root')])
    expect(text).toContain('1 MiB')
  })

  test('checkpoint, rollback and merge work on several disks, resize on one', async () => {
    const folder = temporaryFolder()
    const folders = ['root', 'data'].map((name) => join(folder, name))
    for (const one of folders) await disk(['create', one, '--size', '8MiB'])
    expect((await disk(['checkpoint', 'clean', ...folders])).text).toContain('Checkpoint clean of')
    const info = await disk(['info', folders[0] ?? ''], { json: true })
    expect(info.json).toMatchObject({ checkpoints: [{ name: 'clean', time: expect.stringMatching(/Z$/) }] })
    const rolled = await disk(['rollback', 'clean', ...folders], { json: true })
    const events = folders.map((one) => ({ type: 'rolled-back', folder: one, name: 'clean' }))
    expect(rolled.events).toEqual(events)
    const merged = await disk(['merge', 'clean', ...folders], { json: true })
    expect(merged.json).toEqual({ name: 'clean', disks: folders.map((one) => ({ folder: one, pending: false })) })
    expect((await disk(['resize', folders[0] ?? '', '16MiB'])).text).toContain('8 MiB to 16 MiB')
  })

  test('shrinking must be meant', async () => {
    const root = join(temporaryFolder(), 'root')
    await disk(['create', root, '--size', '16MiB'])
    await expect(disk(['resize', root, '8MiB'])).rejects.toMatchObject({
      code: 'usage',
      hint: expect.stringContaining('--shrink'),
    })
    expect((await disk(['resize', root, '8MiB', '--shrink'])).text).toContain('16 MiB to 8 MiB')
  })

  test('wrong values and unknown names are told with what is right', async () => {
    const root = join(temporaryFolder(), 'root')
    await expect(disk(['create', root, '--size', 'big'])).rejects.toMatchObject({
      code: 'usage',
      message: '"big" is no size',
    })
    await disk(['create', root, '--size', '8MiB'])
    await disk(['checkpoint', 'clean', root])
    await expect(disk(['rollback', 'claen', root])).rejects.toMatchObject({
      code: 'usage',
      message: expect.stringContaining('claen'),
    })
    await expect(disk(['info', join(root, 'no')])).rejects.toMatchObject({ code: 'tracker' })
    await expect(disk(['serve', root, '--tcp', '10809', '--socket', 'x'])).rejects.toThrow('exclude each other')
    await expect(disk(['serve', root, '--tcp', 'here'])).rejects.toThrow('"here" is no address')
    await expect(disk(['serve', root, '--tcp', '0.0.0.0:0'])).rejects.toThrow('refused to listen on 0.0.0.0')
    await expect(disk(['serve', root, root])).rejects.toThrow('needs a name')
  })
})

describeWith(['qemu-io'], 'refpoint disk serve', () => {
  test('serves until it is stopped; commands run beside it; what was written is there afterwards', async () => {
    const root = join(temporaryFolder(), 'root disk')
    await disk(['create', root, '--size', '8MiB'])
    const stop = new AbortController()
    const { output, stderr } = capture({ json: true })
    const program = new Command('refpoint').exitOverride()
    program.addCommand(diskCommand({ output: () => output, signal: stop.signal }, async () => diskActions))
    const serving = program.parseAsync(['disk', 'serve', root], { from: 'user' })
    try {
      await expect.poll(() => stderr()).toContain('serving')
      const { exports } = JSON.parse(stderr()) as { exports: readonly { uri: string }[] }
      const uri = exports[0]?.uri ?? ''
      expect(uri).toBe(`nbd+unix:///root%20disk?socket=${root.replaceAll(' ', '%20')}/nbd.sock`)
      expect(await client(uri, 'write -P 7 0 64k', 'flush')).toContain('wrote 65536/65536')
      const info = await disk(['info', root], { json: true })
      expect(info.json).toMatchObject({ serverPid: process.pid })
      await expect(disk(['serve', root, '--tcp', '0'])).rejects.toMatchObject({ code: 'locked' })
      expect((await disk(['checkpoint', 'clean', root])).text).toContain('Checkpoint clean')
      expect(await client(uri, 'write -P 8 0 64k', 'flush')).toContain('wrote 65536/65536')
      expect((await disk(['rollback', 'clean', root])).text).toContain('Rolled back')
      const read = await client(uri, 'read -P 7 0 64k')
      expect(read).toContain('read 65536/65536')
      expect(read).not.toContain('verification failed')
    } finally {
      stop.abort()
      await serving
    }
    expect((await disk(['info', root], { json: true })).json).toMatchObject({ serverPid: null })
  })

  test('as a program of its own it ends well when it is told to stop', async () => {
    const root = join(temporaryFolder(), 'root')
    await disk(['create', root, '--size', '8MiB'])
    const main = join(import.meta.dirname, '..', '..', 'dist', 'main.js')
    const child = spawn(process.execPath, [main, 'disk', 'serve', root, '--tcp', '0'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    onTestFinished(() => void child.kill('SIGKILL'))
    const [line] = await once(child.stdout, 'data')
    const uri = /nbd:\/\/\S+/.exec(String(line))?.[0] ?? ''
    expect(uri).toMatch(/^nbd:\/\/127\.0\.0\.1:\d+\/root$/)
    expect(await client(uri, 'write -P 7 0 64k')).toContain('wrote 65536/65536')
    child.kill('SIGTERM')
    expect(await once(child, 'exit')).toEqual([0, null])
  })
})
