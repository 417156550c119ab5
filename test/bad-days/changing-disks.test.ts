import { renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import {
  changed,
  contentOf,
  expectRestores,
  expectSame,
  expectTold,
  expectVerifies,
  oneImage,
  openScene,
  restoreWithoutRefpoint,
  type Scene,
  type Taken,
} from './scene.js'

/** Takes a point, and remembers what was on the disk. */
async function take(scene: Scene, taken: Taken[], content: Buffer, ...expected: readonly RegExp[]): Promise<void> {
  const { stdout } = await scene.ok(['backup'])
  for (const part of expected) expect(stdout).toMatch(part)
  taken.push({ point: taken.length + 1, content })
}

async function expectAll(scene: Scene, taken: readonly Taken[]): Promise<void> {
  await expectVerifies(scene)
  for (const entry of taken) await expectRestores(scene, entry)
  const last = taken.at(-1)
  if (last === undefined) return
  expectSame(await restoreWithoutRefpoint(scene.repository, 'root', last.point), last.content, 'without refpoint')
}

it('follows an image that shrinks, grows back, grows further, and is replaced by another', async () => {
  const scene = openScene(oneImage, { within: true })
  await scene.ok(['init'])
  const image = scene.path('root.img')
  const taken: Taken[] = []
  const first = contentOf(1, 1_000_000 - (1_000_000 % 512))
  writeFileSync(image, first)
  await take(scene, taken, first, /full/)
  truncateSync(image, 300_032)
  await take(scene, taken, first.subarray(0, 300_032), /compared/, /resized from 999936 to 300032/)
  truncateSync(image, first.length)
  const regrown = Buffer.concat([first.subarray(0, 300_032), Buffer.alloc(first.length - 300_032)])
  await take(scene, taken, regrown, /resized from 300032 to 999936/)
  const grown = Buffer.concat([regrown, contentOf(2, 1_000_448)])
  writeFileSync(image, grown)
  await take(scene, taken, grown, /resized/)
  const other = contentOf(77, grown.length)
  writeFileSync(scene.path('other.img'), other)
  renameSync(scene.path('other.img'), image)
  await take(scene, taken, other, /compared/)
  await expectAll(scene, taken)
})

it('fails over an image that has vanished or is none, keeps what it has, and goes on when it is back', async () => {
  const scene = openScene(oneImage, { within: true })
  await scene.ok(['init'])
  const image = scene.path('root.img')
  const taken: Taken[] = []
  const first = contentOf(1, 500_224)
  writeFileSync(image, first)
  await take(scene, taken, first)
  renameSync(image, scene.path('away.img'))
  expectTold(await scene.run(['backup']), 14, /root/, /root\.img is not there/, /path in the configuration/)
  writeFileSync(image, Buffer.concat([Buffer.from('QFI\xfb\0\0\0\x03', 'latin1'), Buffer.alloc(100_000)]))
  expectTold(await scene.run(['backup']), 14, /qcow2 image, not a raw one/, /format: raw/)
  rmSync(image)
  renameSync(scene.path('away.img'), image)
  const second = changed(first, 9)
  writeFileSync(image, second)
  await take(scene, taken, second, /compared/)
  await expectAll(scene, taken)
})

const trackedDisk = `
repository: ./repository
machines:
  web01:
    tracker: disk
    stores: { root: ./root }
`

it('follows a tracked disk that shrinks, grows back, vanishes, and is another one under the same name', async () => {
  const scene = openScene(trackedDisk, { within: true })
  await scene.ok(['init'])
  const taken: Taken[] = []
  const bytes = 1024 * 1024
  const first = contentOf(1, bytes)
  const import_ = async (content: Buffer, folder: string): Promise<void> => {
    writeFileSync(scene.path('image'), content)
    await scene.ok(['disk', 'import', scene.path('image'), scene.path(folder)])
  }
  await import_(first, 'root')
  await take(scene, taken, first, /full/)
  await scene.ok(['disk', 'resize', scene.path('root'), String(bytes / 2), '--shrink'])
  await take(scene, taken, first.subarray(0, bytes / 2), /resized from 1048576 to 524288/)
  await scene.ok(['disk', 'resize', scene.path('root'), String(bytes)])
  await take(scene, taken, Buffer.concat([first.subarray(0, bytes / 2), Buffer.alloc(bytes / 2)]), /resized/)

  renameSync(scene.path('root'), scene.path('away'))
  const gone = await scene.run(['backup'])
  expectTold(gone, 14, /root/)
  expect((await scene.run(['backup', '--incremental'])).status).toBe(14)

  const other = changed(first, 5)
  await import_(other, 'root')
  await take(scene, taken, other, /compared/, /another disk/)
  const { stdout } = await scene.ok(['backup', '--incremental'])
  expect(stdout).toMatch(/tracked/)
  taken.push({ point: 5, content: other })
  await expectAll(scene, taken)
})

it('refuses to cut a tracked disk without being told to', async () => {
  const scene = openScene(trackedDisk, { within: true })
  await scene.ok(['disk', 'create', scene.path('root'), '--size', '1MiB'])
  expectTold(await scene.run(['disk', 'resize', scene.path('root'), '512KiB']), 2, /would cut it/, /--shrink/)
  expect((await scene.ok(['disk', 'info', scene.path('root')])).stdout).toMatch(/1(\.0+)? MiB/)
  expectTold(await scene.run(['disk', 'create', scene.path('root'), '--size', '1MiB']), 2, /root/)
  expectTold(await scene.run(['disk', 'info', scene.path('nowhere')]), 14, /nowhere/)
})
