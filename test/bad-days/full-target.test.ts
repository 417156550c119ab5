import { execFileSync } from 'node:child_process'
import { createCipheriv } from 'node:crypto'
import { mkdirSync, statfsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { describeWith } from '../layers.js'
import { expectRestores, expectTold, expectVerifies, filesBelow, openScene, type RunOptions, type Scene, type Taken } from './scene.js'

const asRoot = process.getuid?.() === 0
const mebibyte = 1024 * 1024

const smallRepository = `
repository: ./target/repository
machines:
  web01:
    tracker: image
    stores: { root: ./root.img }
`

/** Incompressible: what is stored is as large as what is backed up. */
function noise(seed: number, bytes: number): Buffer {
  const key = Buffer.alloc(16, seed)
  return createCipheriv('aes-128-ctr', key, key).update(Buffer.alloc(bytes))
}

function mounted(scene: Scene, ...args: readonly string[]): string {
  const target = scene.path('target')
  mkdirSync(target)
  execFileSync('mount', [...args, target])
  onTestFinished(() => void execFileSync('umount', ['--lazy', target]))
  return target
}

/** A backup fails in the midst of its archive; what was there before is untouched, and a larger target takes it all. */
async function expectNothingLost(scene: Scene, grow: () => void, limits?: RunOptions): Promise<void> {
  await scene.ok(['init'])
  const small: Taken = { point: 1, content: noise(1, mebibyte) }
  writeFileSync(scene.path('root.img'), small.content)
  await scene.ok(['backup'])
  const folder = join(scene.path('target/repository'), 'machines/web01')
  const before = filesBelow(folder).filter((name) => !/^(locks|runs)\//.test(name))
  const large = { point: 2, content: noise(2, 24 * mebibyte) }
  writeFileSync(scene.path('root.img'), large.content)
  for (let attempt = 1; attempt <= 2; attempt += 1) {
    const told = await scene.run(['backup'], limits)
    expectTold(told, 1, /no space left|too large/, /ENOSPC|EFBIG/, /[Ff]ree|Raise|raise/)
    expect(filesBelow(folder).filter((name) => !/^(locks|runs)\//.test(name))).toEqual(before)
  }
  await expectVerifies(scene)
  await expectRestores(scene, small)
  grow()
  await scene.ok(['backup', '--incremental'])
  await expectVerifies(scene)
  await expectRestores(scene, small)
  await expectRestores(scene, large)
}

it.skipIf(!asRoot)('survives a small tmpfs that is full (needs root)', async () => {
  const scene = openScene(smallRepository, { within: true })
  const target = mounted(scene, '-t', 'tmpfs', '-o', 'size=8m', 'none')
  await expectNothingLost(scene, () => execFileSync('mount', ['-o', 'remount,size=64m', target]))
})

it('survives a limit on the size of files', async () => {
  const scene = openScene(smallRepository, { within: true })
  mkdirSync(scene.path('target'))
  await expectNothingLost(scene, () => undefined, { through: ['bash', '-c', 'ulimit -f 4096; exec "$@"', '-'] })
})

it.skipIf(!asRoot)('leaves nothing behind of a restore that does not fit (needs root)', async () => {
  const scene = openScene(smallRepository, { within: true })
  const small = mounted(scene, '-t', 'tmpfs', '-o', 'size=4m', 'none')
  scene.configure(smallRepository.replace('./target/repository', './repository'))
  await scene.ok(['init'])
  const content = noise(3, 12 * mebibyte)
  writeFileSync(scene.path('root.img'), content)
  await scene.ok(['backup'])
  expectTold(await scene.run(['restore', 'web01', '--at', '1', '--to', scene.path('target/there')]), 1, /no space left/, /Free/)
  expect(filesBelow(small)).toEqual([])
  await expectRestores(scene, { point: 1, content })
})

describeWith(['loop-xfs', 'mkfs.ext4'], 'a full file system of its own', () => {
  it('costs nothing but the run that filled it', async () => {
    const scene = openScene(smallRepository, { within: true })
    const image = scene.path('filesystem')
    execFileSync('truncate', ['--size=12M', image])
    execFileSync('mkfs.ext4', ['-q', '-m', '0', image])
    const target = mounted(scene, '-o', 'loop', image)
    const free = (): number => statfsSync(target).bavail
    const empty = free()
    await expectNothingLost(scene, () => {
      expect(free()).toBeGreaterThan(empty / 2)
      const folder = scene.path('target/repository')
      const aside = scene.path('aside')
      execFileSync('cp', ['-a', folder, aside])
      execFileSync('umount', [target])
      execFileSync('truncate', ['--size=64M', image])
      execFileSync('mkfs.ext4', ['-q', '-F', image])
      execFileSync('mount', ['-o', 'loop', image, target])
      execFileSync('cp', ['-a', aside, folder])
    })
  })
})
