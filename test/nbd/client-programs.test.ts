import { join } from 'node:path'
import { writeFileSync } from 'node:fs'
import { describe, expect, it, onTestFinished } from 'vitest'
import { connectNbd, listNbdExports, type NbdClient, type NbdConnectOptions } from '../../src/nbd/client.js'
import { describeWith } from '../layers.js'
import { temporaryFolder } from '../temporary.js'
import { memoryBackend } from './memory-backend.js'
import { pattern, run, serve, start } from './programs.js'

const mib = 1024 * 1024

async function open(path: string, options: NbdConnectOptions = {}): Promise<NbdClient> {
  const client = await connectNbd({ path }, options)
  onTestFinished(() => client.disconnect())
  return client
}

/** Writes, reads back in an order of its own, zeroes, trims and flushes, many requests at once. */
async function exercise(client: NbdClient): Promise<void> {
  const content = pattern(4 * mib + 512)
  await client.write([content.subarray(0, 1000), content.subarray(1000)], 0)
  const back = Buffer.alloc(content.length)
  const parts = Array.from({ length: 200 }, (_, index) => (index * 77) % 200)
  const step = Math.ceil(content.length / 200 / 512) * 512
  await Promise.all(parts.map((part) => client.read(back.subarray(part * step, (part + 1) * step), part * step)))
  expect(back.equals(content)).toBe(true)
  await client.zero(512, 1024, { punch: true, fua: true })
  await client.write(Buffer.alloc(512, 7), 1024, { fua: true })
  await client.trim(2 * mib, mib)
  await client.flush()
  const start = Buffer.alloc(2048)
  await client.read(start, 0)
  expect(start.subarray(0, 512).equals(content.subarray(0, 512))).toBe(true)
  expect(start.subarray(512, 1024).every((byte) => byte === 0)).toBe(true)
  expect(start.subarray(1024, 1536).every((byte) => byte === 7)).toBe(true)
  expect(start.subarray(1536).equals(content.subarray(1536, 2048))).toBe(true)
}

describe('the client and our server', () => {
  it('does all there is to do', async () => {
    const { path } = await serve(memoryBackend(80 * mib))
    const client = await open(path, { exportName: 'disk', contexts: ['base:allocation', 'test:every:3', 'test:no'] })
    expect(client.contexts).toEqual(['base:allocation', 'test:every:3'])
    await exercise(client)
    const status = await client.blockStatus(3 * mib, 2 * mib)
    expect(status.get('base:allocation')).toEqual([
      { length: mib + 65_536, flags: 0 },
      { length: mib - 65_536, flags: 3 },
    ])
    expect((await client.blockStatus(0, 80 * mib, { one: true })).get('test:every:3')).toEqual([
      { length: 65_536, flags: 1 },
    ])
    const large = pattern(70 * mib)
    await client.write(large, 4096)
    const back = Buffer.alloc(large.length)
    await client.read(back, 4096)
    expect(back.equals(large)).toBe(true)
    expect(await listNbdExports({ path })).toEqual([{ name: 'disk' }])
  })

  it('tells what a server refuses, and goes on', async () => {
    const backend = memoryBackend(mib)
    backend.before = (what) => {
      if (what === 'write') throw Object.assign(new Error('no room left here'), { code: 'ENOSPC' })
    }
    const { path } = await serve(backend)
    const client = await open(path)
    await expect(client.write(Buffer.alloc(512), 0)).rejects.toMatchObject({
      code: 'tracker',
      fields: { error: 'ENOSPC' },
      message: expect.stringContaining('no room left here'),
    })
    await expect(client.read(Buffer.alloc(512), mib)).rejects.toMatchObject({ code: 'tracker' })
    await client.read(Buffer.alloc(512), 0)
    await expect(connectNbd({ path }, { exportName: 'nothing' })).rejects.toThrow(/no export named 'nothing'/)
    await expect(connectNbd({ path }, { contexts: ['test:broken'] })).rejects.toThrow(/this context is broken/)
    await expect(connectNbd({ path: `${path}-missing` })).rejects.toMatchObject({ code: 'tracker' })
  })

  it('ends with the reason of its signal', async () => {
    const backend = memoryBackend(mib)
    const { path } = await serve(backend)
    backend.before = () => new Promise((resolve) => onTestFinished(() => resolve()))
    const abort = new AbortController()
    const client = await open(path, { signal: abort.signal })
    const reading = client.read(Buffer.alloc(512), 0)
    const reason = new Error('enough')
    abort.abort(reason)
    await expect(reading).rejects.toBe(reason)
    await expect(client.flush()).rejects.toBe(reason)
    await expect(connectNbd({ path }, { signal: abort.signal })).rejects.toBe(reason)
  })
})

describeWith(['qemu-img', 'qemu-nbd'], 'the client and qemu-nbd', () => {
  it('reads and writes a qcow2, its allocation and its dirty bitmap', async () => {
    const folder = temporaryFolder()
    const image = join(folder, 'image.qcow2')
    const socket = join(folder, 'qemu.sock')
    await run('qemu-img', 'create', '-q', '-f', 'qcow2', image, '64M')
    await run('qemu-img', 'bitmap', '--add', '-g', '65536', image, 'since')
    await run('qemu-io', '-f', 'qcow2', '-c', 'write -P 1 1M 128k', '-c', 'write -P 2 9M 64k', image)
    await start(socket, 'qemu-nbd', '-t', '-k', socket, '-x', 'disk', '-f', 'qcow2', '-B', 'since', '-e', '4', image)
    const context = 'qemu:dirty-bitmap:since'
    const client = await open(socket, { exportName: 'disk', contexts: ['base:allocation', context] })
    expect(client).toMatchObject({ sizeBytes: 64 * mib, structured: true, contexts: ['base:allocation', context] })
    const status = await client.blockStatus(0, 64 * mib)
    expect(status.get(context)).toEqual([
      { length: mib, flags: 0 },
      { length: 131_072, flags: 1 },
      { length: 8 * mib - 131_072, flags: 0 },
      { length: 65_536, flags: 1 },
      { length: 55 * mib - 65_536, flags: 0 },
    ])
    expect(status.get('base:allocation')?.[0]).toEqual({ length: mib, flags: 3 })
    await exercise(client)
    const other = await open(socket, { exportName: 'disk' })
    const large = pattern(40 * mib)
    await other.write(large, 8 * mib)
    const back = Buffer.alloc(large.length)
    await client.read(back, 8 * mib)
    expect(back.equals(large)).toBe(true)
    expect((await listNbdExports({ path: socket })).map(({ name }) => name)).toEqual(['disk'])
  })
})

describeWith(['nbdkit'], 'the client and nbdkit', () => {
  const kit = async (options: readonly string[], ...plugin: readonly string[]): Promise<string> => {
    const socket = join(temporaryFolder(), 'kit.sock')
    await start(socket, 'nbdkit', '-f', '-U', socket, ...options, ...plugin)
    return socket
  }

  it('works with its memory disk, plain and through filters that change what the server can do', async () => {
    for (const options of [
      [],
      ['--no-sr'],
      ['--mask-handshake=0'],
      ['--mask-handshake=1'],
      ['--filter=delay', '--filter=fua', 'fuamode=emulate', 'rdelay=1ms'],
      ['--filter=blocksize-policy', 'blocksize-minimum=512', 'blocksize-maximum=128k', 'blocksize-error-policy=error'],
    ]) {
      const filters = options.filter((option) => option.startsWith('-'))
      const settings = options.filter((option) => !option.startsWith('-'))
      const socket = await kit(filters, 'memory', '8M', ...settings)
      const client = await connectNbd({ path: socket })
      await exercise(client)
      await client.disconnect()
    }
  })

  it('joins the pieces of sparse reads', async () => {
    const socket = await kit([], 'sparse-random', '16M', 'seed=1', 'percent=30')
    const client = await open(socket, { contexts: ['base:allocation'] })
    const whole = Buffer.alloc(16 * mib, 1)
    await client.read(whole, 0)
    const parts = Buffer.alloc(16 * mib, 2)
    await Promise.all(
      Array.from({ length: 256 }, (_, index) =>
        client.read(parts.subarray(index * 65_536, (index + 1) * 65_536), index * 65_536),
      ),
    )
    expect(parts.equals(whole)).toBe(true)
    expect((await client.blockStatus(0, 16 * mib)).get('base:allocation')?.length).toBeGreaterThan(1)
  })

  it('tells the errors of a server, and of one that refuses writes', async () => {
    const socket = await kit(['--filter=error'], 'memory', '1M', 'error-pread=ENOSPC', 'error-pread-rate=100%')
    const client = await open(socket)
    await expect(client.read(Buffer.alloc(512), 0)).rejects.toMatchObject({ fields: { error: 'ENOSPC' } })
    await client.write(Buffer.alloc(512), 0)
    const readOnly = await open(await kit(['-r'], 'pattern', '1M'))
    await expect(readOnly.write(Buffer.alloc(512), 0)).rejects.toThrow(/read-only/)
    const bytes = Buffer.alloc(8)
    await readOnly.read(bytes, 4096)
    expect(bytes.readBigUInt64BE()).toBe(4096n)
  })

  it('says so when a server speaks only the oldstyle handshake, or dies', async () => {
    const socket = await kit(['-o'], 'memory', '1M')
    await expect(connectNbd({ path: socket })).rejects.toThrow(/oldstyle/)
    const script = join(temporaryFolder(), 'plugin.sh')
    const plugin = '#!/bin/sh\ncase $1 in get_size) echo 1M;; pread) kill -9 $PPID;; *) exit 2;; esac\n'
    writeFileSync(script, plugin, { mode: 0o755 })
    const dying = await open(await kit([], 'sh', script))
    await expect(dying.read(Buffer.alloc(512), 0)).rejects.toMatchObject({ code: 'tracker' })
    await expect(dying.flush()).rejects.toMatchObject({ code: 'tracker' })
  })
})
