import { execFileSync } from 'node:child_process'
import { closeSync, mkdirSync, openSync, writeFileSync, writeSync } from 'node:fs'
import { expect, it, onTestFinished } from 'vitest'
import { describeWith } from '../layers.js'
import { failingDisk, mountOn } from './failing-layer.js'
import {
  changed,
  contentOf,
  expectRestores,
  expectTold,
  expectVerifies,
  filesBelow,
  openScene,
  type Scene,
  type Taken,
} from './scene.js'

const mebibyte = 1024 * 1024
const bytes = 3 * mebibyte

const machine = (tracker: string, store: string, repository = './repository'): string => `
repository: ${repository}
machines:
  web01:
    tracker: ${tracker}
    stores: { root: ${store} }
`

function overwriteInPlace(path: string, content: Buffer): void {
  const file = openSync(path, 'r+')
  writeSync(file, content, 0, content.length, 0)
  closeSync(file)
}

/** What a repository holds, but for leases and what is noted of runs. */
const held = (scene: Scene, repository = 'repository'): string[] =>
  filesBelow(scene.path(repository, 'machines/web01')).filter((name) => /^(points|archives)\//.test(name))

/** A night on which something fails, twice; then it is whole again, and the next run is incremental and right. */
async function expectOnlyANightLost(
  scene: Scene,
  before: Taken,
  after: Taken,
  night: { readonly status?: number; readonly break: () => void; readonly repair: () => void; readonly told: readonly RegExp[]; readonly repository?: string },
): Promise<void> {
  const points = held(scene, night.repository)
  night.break()
  for (let attempt = 0; attempt < 2; attempt++) {
    expectTold(await scene.run(['backup']), night.status ?? 1, ...night.told)
  }
  night.repair()
  expect(held(scene, night.repository)).toEqual(points)
  await expectVerifies(scene)
  await expectRestores(scene, before)
  await scene.ok(['backup', '--incremental'])
  await expectVerifies(scene)
  await expectRestores(scene, before)
  await expectRestores(scene, after)
}

describeWith(['nbdfuse', 'nbdkit'], 'a disk below that fails', () => {
  it('costs a night when an image can not be read', async () => {
    const scene = openScene('', { within: true })
    const disk = await failingDisk(scene, 'below', { bytes, fails: 'pread' })
    scene.configure(machine('image', disk.file))
    await scene.ok(['init'])
    const before = { point: 1, content: contentOf(1, bytes) }
    overwriteInPlace(disk.file, before.content)
    await scene.ok(['backup'])
    const after = { point: 2, content: changed(before.content, 2) }
    overwriteInPlace(disk.file, after.content)
    await expectOnlyANightLost(scene, before, after, {
      status: 14,
      break: disk.fail,
      repair: disk.heal,
      told: [/below\/fuse\/disk/, /EIO/, /dmesg/],
    })
  })

  it('tells which bytes it was when an image fails in the midst', async () => {
    const scene = openScene('', { within: true })
    const disk = await failingDisk(scene, 'below', { bytes, fails: 'pread', delay: { read: 300, write: 0 } })
    scene.configure(machine('image', disk.file))
    await scene.ok(['init'])
    const content = contentOf(1, bytes)
    overwriteInPlace(disk.file, content)
    const running = scene.start(['backup', '--json'])
    running.process.stderr?.on('data', (data: Buffer) => {
      if (data.toString().includes('"planned"')) disk.fail()
    })
    expectTold(await running.told, 1, /can't read .*below\/fuse\/disk at byte \d+: EIO/, /dmesg/)
    disk.heal()
    expect(held(scene)).toEqual([])
    await scene.ok(['backup'])
    await expectRestores(scene, { point: 1, content })
  })

  it('costs time only when an image is slow', async () => {
    const scene = openScene('', { within: true })
    const disk = await failingDisk(scene, 'below', { bytes, fails: 'pread', delay: { read: 50, write: 0 } })
    scene.configure(machine('image', disk.file))
    await scene.ok(['init'])
    const content = contentOf(1, bytes)
    overwriteInPlace(disk.file, content)
    await scene.ok(['backup'])
    await expectRestores(scene, { point: 1, content })
  })
})

describeWith(['nbdfuse', 'nbdkit', 'loop-ext4'], 'a file system below that fails', () => {
  it('costs a night when the files of a tracked disk can not be read', async () => {
    const scene = openScene(machine('disk', './disks/root'), { within: true })
    const disk = await failingDisk(scene, 'below', { bytes: 64 * mebibyte, fails: 'pread' })
    const mounted = mountOn(scene, disk, 'disks')
    const before = { point: 1, content: contentOf(1, bytes) }
    writeFileSync(scene.path('raw'), before.content)
    await scene.ok(['disk', 'import', scene.path('raw'), scene.path('disks/root')])
    await scene.ok(['init'])
    await scene.ok(['backup'])
    const after = { point: 2, content: before.content }
    mounted.remount()
    await expectOnlyANightLost(scene, before, after, {
      break: disk.fail,
      repair: () => {
        disk.heal()
        mounted.remount()
      },
      status: 14,
      told: [/disks\/root/, /EIO/],
    })
  })

  it('costs a night when the repository can not be written', async () => {
    const scene = openScene(machine('image', './root.img', './below-fs/repository'), { within: true })
    const disk = await failingDisk(scene, 'below', { bytes: 64 * mebibyte, fails: 'pwrite' })
    const mounted = mountOn(scene, disk, 'below-fs')
    await scene.ok(['init'])
    const before = { point: 1, content: contentOf(1, bytes) }
    writeFileSync(scene.path('root.img'), before.content)
    await scene.ok(['backup'])
    execFileSync('sync', ['-f', scene.path('below-fs')])
    const after = { point: 2, content: changed(before.content, 2) }
    writeFileSync(scene.path('root.img'), after.content)
    await expectOnlyANightLost(scene, before, after, {
      break: disk.fail,
      repair: () => {
        disk.heal()
        mounted.remount()
      },
      told: [/below-fs\/repository/, /EIO|EROFS|read-only/],
      repository: 'below-fs/repository',
    })
  })

  it('keeps no restore from what can be read, and tells what can not', async () => {
    const scene = openScene(machine('image', './root.img', './below-fs/repository'), { within: true })
    const disk = await failingDisk(scene, 'below', { bytes: 64 * mebibyte, fails: 'pread' })
    const mounted = mountOn(scene, disk, 'below-fs')
    await scene.ok(['init'])
    const content = contentOf(1, bytes)
    writeFileSync(scene.path('root.img'), content)
    await scene.ok(['backup'])
    mounted.remount()
    // What lists folders is read before the disk fails.
    await scene.ok(['points'])
    disk.fail()
    const restored = await scene.run(['restore', 'web01', '--at', '1', '--to', scene.path('restored')])
    expect([1, 13], restored.stderr).toContain(restored.status)
    expectTold(restored, restored.status, /EIO|can.t be read|can not be read/)
    expect(filesBelow(scene.path('restored'))).toEqual([])
    const verified = await scene.run(['verify'])
    expect([1, 13], verified.stderr).toContain(verified.status)
    expectTold(verified, verified.status, /EIO|can.t be read|can not be read/)
    disk.heal()
    mounted.remount()
    await expectVerifies(scene)
    await expectRestores(scene, { point: 1, content })
  })

  it('costs time only when the repository is slow', async () => {
    const scene = openScene(machine('image', './root.img', './below-fs/repository'), { within: true })
    const delay = { read: 2, write: 10 }
    const disk = await failingDisk(scene, 'below', { bytes: 64 * mebibyte, fails: 'pwrite', delay })
    mountOn(scene, disk, 'below-fs')
    await scene.ok(['init'])
    const content = contentOf(1, bytes)
    writeFileSync(scene.path('root.img'), content)
    await scene.ok(['backup'])
    await scene.ok(['backup', '--incremental'])
    await expectVerifies(scene)
    await expectRestores(scene, { point: 2, content })
  })
})

it.skipIf(process.getuid?.() !== 0)('a repository that became read-only costs a night, and can be restored from (needs root)', async () => {
  const scene = openScene(machine('image', './root.img', './target/repository'), { within: true })
  const target = scene.path('target')
  mkdirSync(target)
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=32m', 'none', target])
  onTestFinished(() => void execFileSync('umount', ['--lazy', target]))
  await scene.ok(['init'])
  const before = { point: 1, content: contentOf(1, bytes) }
  writeFileSync(scene.path('root.img'), before.content)
  await scene.ok(['backup'])
  const after = { point: 2, content: changed(before.content, 2) }
  writeFileSync(scene.path('root.img'), after.content)
  await expectOnlyANightLost(scene, before, after, {
    break: () => execFileSync('mount', ['-o', 'remount,ro', target]),
    repair: () => execFileSync('mount', ['-o', 'remount,rw', target]),
    told: [/target\/repository/, /read-only/, /kernel log/],
    repository: 'target/repository',
  })
  execFileSync('mount', ['-o', 'remount,ro', target])
  await expectVerifies(scene)
  await expectRestores(scene, after)
})
