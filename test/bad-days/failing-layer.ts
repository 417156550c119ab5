import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import type { Scene } from './scene.js'

/** A disk that fails or is slow when it is told to: nbdkit, seen as a file through FUSE. */
export interface FailingDisk {
  /** A file of the size that was asked for; reading and writing it is what fails. */
  readonly file: string
  /** From here on every request of a kind fails with EIO. */
  fail(): void
  /** No request fails any more. */
  heal(): void
}

export interface FailingDiskOptions {
  readonly bytes: number
  /** Which requests fail: the error filter's word for them. */
  readonly fails: 'pread' | 'pwrite'
  /** Milliseconds that each request of a kind takes more. */
  readonly delay?: { readonly read: number; readonly write: number }
}

/** Starts one in the scene's folder; it ends with the test, after whatever is mounted on it. */
export async function failingDisk(scene: Scene, name: string, options: FailingDiskOptions): Promise<FailingDisk> {
  const folder = scene.path(name)
  mkdirSync(join(folder, 'fuse'), { recursive: true })
  const socket = join(folder, 'socket')
  const trigger = join(folder, 'fail')
  const { bytes, fails, delay } = options
  const server = spawn(
    'nbdkit',
    [
      ...['--foreground', '--exit-with-parent', '--unix', socket],
      ...['--filter=error', '--filter=delay', 'memory', String(bytes)],
      ...[`error-${fails}=EIO`, `error-${fails}-rate=100%`, `error-${fails}-file=${trigger}`],
      ...[`rdelay=${delay?.read ?? 0}ms`, `wdelay=${delay?.write ?? 0}ms`],
    ],
    { stdio: 'ignore' },
  )
  onTestFinished(() => void server.kill('SIGKILL'))
  await appears(socket)
  const file = join(folder, 'fuse', 'disk')
  const fuse = spawn('nbdfuse', [file, `nbd+unix:///?socket=${socket}`], { stdio: 'ignore' })
  onTestFinished(() => {
    execFileSync('umount', ['--lazy', join(folder, 'fuse')], { stdio: 'ignore' })
    fuse.kill('SIGKILL')
  })
  await appears(file)
  return { file, fail: () => writeFileSync(trigger, ''), heal: () => rmSync(trigger, { force: true }) }
}

/** Makes a file system on a disk, and mounts it on a folder of the scene until the test ends. */
export function mountOn(scene: Scene, { file }: FailingDisk, folder: string): { remount(): void } {
  const path = scene.path(folder)
  mkdirSync(path)
  execFileSync('mkfs.ext4', ['-q', '-m', '0', file])
  const mount = (): void => void execFileSync('mount', ['-o', 'loop', file, path])
  mount()
  onTestFinished(() => void execFileSync('umount', ['--lazy', path], { stdio: 'ignore' }))
  return {
    /** Forgets what is cached, and repairs what a crash of the file system would leave, as a reboot does. */
    remount() {
      execFileSync('umount', [path])
      execFileSync('fsck.ext4', ['-p', file], { stdio: 'ignore' })
      mount()
    },
  }
}

async function appears(path: string): Promise<void> {
  for (const giveUp = Date.now() + 60_000; !existsSync(path); ) {
    if (Date.now() > giveUp) throw new Error(`${path} did not appear`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
