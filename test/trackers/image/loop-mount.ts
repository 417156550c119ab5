import { execFileSync } from 'node:child_process'
import { mkdirSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { temporaryFolder } from '../../temporary.js'

/** A loop device over a sparse file of its own, gone when the test ends. */
export function loopDevice(sizeBytes: number): { device: string; file: string } {
  const file = join(temporaryFolder(), 'loop.img')
  writeFileSync(file, '')
  truncateSync(file, sizeBytes)
  const device = execFileSync('losetup', ['--find', '--show', file], { encoding: 'utf8' }).trim()
  onTestFinished(() => void execFileSync('losetup', ['--detach', device]))
  return { device, file }
}

/** A small XFS of its own, which can clone files; unmounted when the test ends. */
export function mountXfs(): { folder: string; device: string } {
  const { device } = loopDevice(320 << 20)
  execFileSync('mkfs.xfs', ['-q', '-m', 'reflink=1', device])
  return { folder: mount(device), device }
}

/** A small ext4 of its own; unmounted when the test ends. */
export function mountExt4(sizeBytes: number): string {
  const { device } = loopDevice(sizeBytes)
  execFileSync('mkfs.ext4', ['-q', '-m', '0', '-O', '^has_journal', device])
  return mount(device)
}

function mount(device: string): string {
  const folder = join(temporaryFolder(), 'mount')
  mkdirSync(folder)
  execFileSync('mount', [device, folder])
  onTestFinished(() => void execFileSync('umount', [folder]))
  return folder
}
