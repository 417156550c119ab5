import { execFileSync, spawn } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { connectNbd } from '../../../src/nbd/client.js'
import { createDisk } from '../../../src/trackers/disk/create-disk.js'
import { accessDisks } from '../../../src/trackers/disk/disk-access.js'
import { diskInfo } from '../../../src/trackers/disk/info.js'
import { type DiskServer, serveDisks } from '../../../src/trackers/disk/serve-disks.js'
import { describeWith } from '../../layers.js'
import { temporaryFolder } from '../../temporary.js'
import { ServerProcess } from './server-process.js'

interface Served {
  readonly folder: string
  readonly socket: string
  readonly server: DiskServer
}

async function serve(names: readonly string[] = ['disk']): Promise<Served & { readonly folders: readonly string[] }> {
  const root = temporaryFolder()
  mkdirSync(join(root, 'run'), { mode: 0o700 })
  const folders = names.map((name) => join(root, name))
  for (const folder of folders) await createDisk(folder, { sizeBytes: 8 * 1024 * 1024 })
  const socket = join(root, 'run', 'nbd.sock')
  const server = await serveDisks({ folders, listen: { path: socket } })
  onTestFinished(() => server.close())
  return { folder: folders[0] ?? '', folders, socket, server }
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5))
}

test('tells what changed since a point, and where data is, over NBD', async () => {
  const { folder, socket } = await serve()
  const first = await connectNbd({ path: socket })
  await first.write(Buffer.alloc(1000, 1), 100_000)
  await using access = await accessDisks([folder])
  const point = await access.checkpoint()
  const changeId = point.disks[0]?.changeId ?? ''
  await first.write(Buffer.alloc(1000, 2), 5_000_000)
  const context = `refpoint:changed:${changeId}`
  const client = await connectNbd({ path: socket }, { contexts: ['base:allocation', context, `${context}0`] })
  expect(client.contexts).toEqual(['base:allocation', context])
  const block = 16 * 1024
  const status = await client.blockStatus(0, client.sizeBytes)
  const from = Math.floor(5_000_000 / block) * block
  expect(status.get(context)).toEqual([
    { length: from, flags: 0 },
    { length: block, flags: 1 },
    { length: client.sizeBytes - from - block, flags: 0 },
  ])
  const allocation = status.get('base:allocation') ?? []
  expect(allocation.reduce((sum, { length }) => sum + length, 0)).toBe(client.sizeBytes)
  expect(allocation.some(({ flags }) => flags === 0)).toBe(true)
  point.release()
  await client.disconnect()
  await first.disconnect()
})

test('a checkpoint goes with the backup that was killed', async () => {
  const { folder, server } = await serve()
  const access = join(import.meta.dirname, '../../../dist/trackers/disk/disk-access.js')
  const script = `import { accessDisks } from '${access}'
    const access = await accessDisks(['${folder}'])
    await access.checkpoint()
    console.log('taken')
    setInterval(() => {}, 1000)`
  const args = ['--input-type=module', '-e', script]
  const backup = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  onTestFinished(() => void backup.kill('SIGKILL'))
  await new Promise((resolve) => backup.stdout.once('data', resolve))
  const disk = server.set.disk(folder)
  expect(disk.stack.layers).toHaveLength(2)
  backup.kill('SIGKILL')
  await until(() => disk.stack.layers.length === 1)
  expect((await diskInfo(folder)).layers).toBe(1)
})

test('nothing is rolled back or resized under a connected client', async () => {
  const { folder, socket, server } = await serve()
  await using access = await accessDisks([folder])
  await access.checkpointAs('before')
  const client = await connectNbd({ path: socket })
  await client.write(Buffer.alloc(512, 1), 0)
  await expect(access.rollback('before')).rejects.toMatchObject({
    code: 'locked',
    message: expect.stringContaining('1 client'),
  })
  await client.disconnect()
  await until(() => server.nbd.connections === 0)
  await expect(access.rollback('before')).resolves.toBeUndefined()
  expect(await access.merge('before')).toEqual({ pending: false })
  await access.resize(9 * 1024 * 1024)
  const again = await connectNbd({ path: socket })
  expect(again.sizeBytes).toBe(9 * 1024 * 1024)
  const sector = Buffer.alloc(512, 9)
  await again.read(sector, 0)
  expect(sector.every((byte) => byte === 0)).toBe(true)
  await again.disconnect()
})

test('disks that no one server serves have no instant in common', async () => {
  const { folder } = await serve()
  const alone = join(temporaryFolder(), 'alone')
  await createDisk(alone, { sizeBytes: 512 })
  await expect(accessDisks([folder, alone])).rejects.toMatchObject({
    code: 'tracker',
    message: expect.stringContaining('not served'),
  })
  const other = await serve()
  await expect(accessDisks([folder, other.folder])).rejects.toMatchObject({
    code: 'tracker',
    message: expect.stringContaining('several servers'),
  })
})

test('a named checkpoint of several disks is taken on all or on none', async () => {
  const { folders } = await serve(['a', 'b'])
  await using one = await accessDisks(folders.slice(1))
  await one.checkpointAs('taken')
  await using both = await accessDisks(folders)
  await expect(both.checkpointAs('taken')).rejects.toMatchObject({ code: 'usage' })
  const infos = await Promise.all(folders.map((folder) => diskInfo(folder)))
  expect(infos.map(({ checkpoints }) => checkpoints.length)).toEqual([0, 1])
  const { changeIds } = await both.checkpointAs('fine')
  expect(changeIds).toHaveLength(2)
})

test('a folder too deep for a control socket is refused with the reason', async () => {
  const deep = join(temporaryFolder(), 'd'.repeat(100))
  await createDisk(deep, { sizeBytes: 512 })
  const run = join(temporaryFolder(), 'run')
  mkdirSync(run, { mode: 0o700 })
  await expect(serveDisks({ folders: [deep], listen: { path: join(run, 's') } })).rejects.toMatchObject({
    code: 'tracker',
    message: expect.stringContaining('too long for a unix socket'),
  })
  await using access = await accessDisks([deep])
  expect(access.serverPid).toBeUndefined()
})

test('a control client that talks nonsense, endless lines, or hangs up early hurts nobody', async () => {
  const { folder } = await serve()
  for (const text of ['hello\n', '{"id":1,"op":"format"}\n', 'x'.repeat(3_000_000), '{"id":1,"op":"info"}\n']) {
    const socket = connect(join(folder, 'control.sock'))
    const closed = new Promise((resolve) => socket.once('close', resolve))
    socket.on('error', () => undefined)
    socket.write(text)
    if (text.includes('info')) socket.once('connect', () => socket.destroy())
    await closed
  }
  await using access = await accessDisks([folder])
  expect(access.serverPid).toBe(process.pid)
})

test('a server that is told to stop writes everything out: nothing is over-reported afterwards', async () => {
  const root = temporaryFolder()
  const folder = join(root, 'disk')
  await createDisk(folder, { sizeBytes: 64 * 1024 * 1024, blockBytes: 4096 })
  mkdirSync(join(root, 'run'), { mode: 0o700 })
  const socket = join(root, 'run', 's')
  const server = await ServerProcess.start(socket, [folder])
  let changeId = ''
  {
    await using access = await accessDisks([folder])
    const point = await access.checkpoint()
    changeId = point.disks[0]?.changeId ?? ''
    const client = await connectNbd({ path: socket })
    await client.write(Buffer.alloc(512, 1), 40_960)
    await client.disconnect()
  }
  expect(await server.stop()).toBe(0)
  const again = await serveDisks({ folders: [folder], listen: { path: socket } })
  const client = await connectNbd({ path: socket }, { contexts: [`refpoint:changed:${changeId}`] })
  const status = await client.blockStatus(0, client.sizeBytes)
  expect(status.get(`refpoint:changed:${changeId}`)?.[1]).toEqual({ length: 4096, flags: 1 })
  expect(status.get(`refpoint:changed:${changeId}`)).toHaveLength(3)
  await client.disconnect()
  await again.close()
})

describeWith(['nbdinfo', 'nbdcopy'], 'with libnbd', () => {
  test('nbdcopy brings an image in and out, and nbdinfo maps it', async () => {
    const { folder, socket } = await serve()
    const image = join(temporaryFolder(), 'image')
    execFileSync('sh', ['-c', `head -c 3000000 /dev/urandom > ${image}; truncate -s 8M ${image}`])
    const uri = `nbd+unix:///disk?socket=${socket}`
    // In a process of their own, so that this one can answer them.
    await run('nbdcopy', ['--flush', image, uri])
    await using access = await accessDisks([folder])
    const point = await access.checkpoint()
    await run('nbdcopy', [uri, `${image}.back`])
    execFileSync('cmp', [image, `${image}.back`])
    const map = JSON.parse(await run('nbdinfo', ['--json', '--map', uri])) as { type: number; length: number }[]
    expect(map.at(-1)?.type).toBe(3)
    point.release()
  })
})

function run(command: string, args: readonly string[]): Promise<string> {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  let output = ''
  child.stdout.on('data', (data: Buffer) => (output += data.toString()))
  return new Promise((resolve, reject) => {
    child.once('close', (status) => {
      if (status === 0) resolve(output)
      else reject(new Error(`${command} ended with ${status}`))
    })
  })
}
