import { closeSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { contentOf, expectRestores, expectSame, expectTold, expectVerifies, makeFolder, openScene, restore, type Scene } from './scene.js'

const oneDisk = `
repository: ./repository
machines:
  web01:
    tracker: disk
    stores: { root: ./disks/root }
`

/** A machine with a tracked disk that nobody serves, and one point of it. */
async function machineWithAPoint(): Promise<{ readonly scene: Scene; readonly content: Buffer }> {
  const scene = openScene(oneDisk, { within: true })
  const content = contentOf(1, 4 * 1024 * 1024)
  makeFolder(scene.path('disks'))
  writeFileSync(scene.path('raw'), content)
  await scene.ok(['disk', 'import', scene.path('raw'), scene.path('disks/root')])
  await scene.ok(['init'])
  await scene.ok(['backup'])
  return { scene, content }
}

/** Bytes change below the tracker, which can't see it: a disk that rots, or somebody who writes to its files. */
function changeBehindItsBack(scene: Scene, content: Buffer, offset: number): void {
  const bytes = Buffer.from('nobody tracked this')
  const file = openSync(scene.path('disks/root/layer-0.raw'), 'r+')
  writeSync(file, bytes, 0, bytes.length, offset)
  closeSync(file)
  bytes.copy(content, offset)
}

it('tells loudly which blocks a tracker missed, takes a right point, and trusts it again when it has proven itself', async () => {
  const { scene, content } = await machineWithAPoint()
  changeBehindItsBack(scene, content, 1_000_000)
  const told = await scene.run(['backup'])
  expectTold(told, 14, /web01.*missed changes.*'root' called 1 block of 64 KiB unchanged that is not: bytes 983040 to 1048576/, /committed and is right/)
  await expectRestores(scene, { point: 2, content })
  expect((await scene.ok(['backup'])).stdout).toMatch(/root compared \(compared with point #2: its tracker is not trusted since #2/)
  const next = await scene.ok(['backup'])
  expect(next.stdout).toMatch(/root tracked \(changes since point #3\)/)
  await expectVerifies(scene)
})

it('finds it by an audit too, which takes no point, and makes the next backup compare', async () => {
  const { scene, content } = await machineWithAPoint()
  changeBehindItsBack(scene, content, 2_000_000)
  expectTold(await scene.run(['audit', 'web01']), 14, /missed changes of 'root'/, /refpoint backup web01/)
  const json = await scene.run(['audit', 'web01', '--full', '--json'])
  expect(json).toMatchObject({ status: 14, stdout: '' })
  const error = JSON.parse(json.stderr.trim().split('\n').at(-1) ?? '') as { fields: { stores: unknown } }
  expect(error.fields.stores).toMatchObject([
    { name: 'root', whole: true, missedBlocks: 1, ranges: [{ offset: 30 * 65_536, length: 65_536 }] },
  ])
  expect((await scene.ok(['points'])).stdout).toMatch(/web01: 1 points/)
  expectTold(await scene.run(['backup']), 14, /missed changes/)
  await expectRestores(scene, { point: 4, content })
  expect((await scene.ok(['audit', 'web01', '--full'])).stdout).toMatch(/trusted again/)
  expect((await scene.ok(['backup'])).stdout).toMatch(/root tracked/)
})

it('says what can not be audited', async () => {
  const { scene } = await machineWithAPoint()
  scene.configure(oneDisk.replace('tracker: disk', 'tracker: image').replace('./disks/root', './raw'))
  expectTold(await scene.run(['audit', 'web01']), 2, /nothing tracks its changes/)
  expectTold(await scene.run(['audit', 'db01']), 2, /no machine 'db01'/)
  scene.configure(`${oneDisk}defaults: { audit: { bytes: 0 } }`)
  expectTold(await scene.run(['audit', 'web01']), 2, /budget is zero/, /--full/)
  await scene.ok(['audit', 'web01', '--full'])
  scene.configure(`${oneDisk}    files: {}\n  new01: { tracker: disk, stores: { root: ./disks/root } }\n`)
  expectTold(await scene.run(['audit', 'new01']), 2, /no machine 'new01'/)
})

it('leaves nothing behind when it is killed at any moment', async () => {
  const { scene, content } = await machineWithAPoint()
  const started = Date.now()
  await scene.start(['audit', 'web01', '--full']).told
  const usual = Date.now() - started
  for (let round = 0; round < 8; round++) {
    const audit = scene.start(['audit', 'web01', '--full'])
    const timer = setTimeout(() => audit.process.kill('SIGKILL'), usual * (0.3 + round * 0.09))
    const { status, stderr } = await audit.told
    clearTimeout(timer)
    expect([-1, 0], stderr).toContain(status)
  }
  changeBehindItsBack(scene, content, 3_000_000)
  expectTold(await scene.run(['audit', 'web01', '--full']), 14, /missed/)
  expectTold(await scene.run(['backup']), 14, /missed/)
  await expectVerifies(scene)
  const { stdout } = await scene.ok(['points', '--json'])
  const { machines } = JSON.parse(stdout) as { machines: { points: { point: number }[] }[] }
  const newest = machines[0]?.points.at(-1)?.point ?? 0
  const { folder } = await restore(scene, newest)
  expectSame(readFileSync(join(folder, 'root.raw')), content, `point #${newest}`)
})
