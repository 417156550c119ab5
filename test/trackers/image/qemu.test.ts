import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { describeWith } from '../../layers.js'
import { temporaryFolder } from '../../temporary.js'
import { checkpointOf } from './checkpoint.js'

function image(): string {
  const path = join(temporaryFolder(), 'disk.img')
  writeFileSync(path, Buffer.alloc(1 << 20, 'refpoint'))
  return path
}

/** A QEMU process that has an image open, from its first answer on until the test ends. */
async function qemuIo(...args: string[]): Promise<ChildProcess> {
  const child = spawn('qemu-io', args, { stdio: ['pipe', 'pipe', 'inherit'] })
  onTestFinished(() => void child.kill('SIGKILL'))
  child.stdin.write('read 0 4k\n')
  for await (const piece of child.stdout) if (String(piece).includes('read 4096/4096')) return child
  throw new Error('qemu-io ended')
}

function write(path: string): { status: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync('qemu-io', ['-f', 'raw', '-c', 'write 0 4k', path], { encoding: 'utf8' })
  return { status, output: stdout + stderr }
}

describeWith(['qemu-io', 'qemu-nbd'], 'QEMU and the image tracker', () => {
  test('an image that QEMU writes to is refused, and torn where allowed', async () => {
    const root = image()
    const child = await qemuIo('-f', 'raw', root)
    await expect(checkpointOf({ root })).rejects.toMatchObject({
      code: 'tracker',
      message: expect.stringContaining(`store root: ${root} is held for writing by qemu-io (pid ${child.pid})`),
    })
    await using checkpoint = await checkpointOf({ root }, { allowTorn: true, cloneFolder: '/proc' })
    expect(checkpoint.consistency).toBe('torn')
  })

  test('one that QEMU writes to without locking is found all the same', async () => {
    const root = image()
    await qemuIo('--image-opts', `driver=raw,file.driver=file,file.filename=${root},file.locking=off`)
    await expect(checkpointOf({ root })).rejects.toThrow('held for writing by qemu-io')
  })

  test('one that QEMU only reads is offline', async () => {
    const root = image()
    await qemuIo('-r', '-f', 'raw', root)
    await using checkpoint = await checkpointOf({ root })
    expect(checkpoint.consistency).toBe('offline')
  })

  test('a machine can not start on it during the backup, and can again afterwards', async () => {
    const root = image()
    const checkpoint = await checkpointOf({ root })
    const during = write(root)
    expect(during.status).not.toBe(0)
    expect(during.output).toContain('lock')
    await using second = await checkpointOf({ root })
    expect(second.consistency).toBe('offline')
    await second[Symbol.asyncDispose]()
    await checkpoint[Symbol.asyncDispose]()
    expect(write(root)).toMatchObject({ status: 0 })
  })

  test('a refused run leaves no lock behind', async () => {
    const root = image()
    const gone = join(temporaryFolder(), 'gone')
    await expect(checkpointOf({ root, gone })).rejects.toThrow('is not there')
    expect(write(root)).toMatchObject({ status: 0 })
  })

  test('an image that qemu-nbd serves for writing is refused', async () => {
    const root = image()
    const folder = temporaryFolder()
    const pidFile = join(folder, 'pid')
    // With --fork it returns when the export is there, not only the socket.
    const args = ['-f', 'raw', '-k', join(folder, 'nbd.sock'), '-t', '--fork', '--pid-file', pidFile, root]
    execFileSync('qemu-nbd', args, { stdio: 'ignore' })
    const pid = Number(readFileSync(pidFile, 'utf8'))
    onTestFinished(() => void process.kill(pid, 'SIGKILL'))
    await expect(checkpointOf({ root })).rejects.toThrow(`held for writing by qemu-nbd (pid ${pid})`)
  })
})
