import { readFileSync, rmSync } from 'node:fs'
import { basename } from 'node:path'
import { expect, it } from 'vitest'
import { archiveSections } from './archive-sections.js'
import {
  archivePath,
  expectRefused,
  expectRestores,
  expectRightOrRefused,
  expectTold,
  expectVerifies,
  oneImage,
  openScene,
  overwrite,
  readManifest,
  type Scene,
  type Taken,
  takeHistory,
} from './scene.js'

const sectionNames = [
  'refpoint.json',
  'config/vm.xml',
  'stores/root/data/0',
  'stores/root/tables/0',
  'stores/root/directory',
  'index.json',
  'seek table',
]

async function openHistory(): Promise<{ scene: Scene; taken: readonly Taken[] }> {
  const scene = openScene(`${oneImage}    files: { vm.xml: ./refpoint.yaml }\n`, { within: true })
  return { scene, taken: await takeHistory(scene, 600_576) }
}

/** Verify names the archive of point #2 and the points that need it, and no others. */
async function expectNamed(scene: Scene, path: string, ...substance: readonly RegExp[]): Promise<void> {
  const told = await scene.run(['verify'])
  expectTold(told, 13, new RegExp(basename(path)), /affects points: #2, #3/, /web01 #2, web01 #3/, ...substance)
  expect(told.stderr).not.toMatch(/web01 #[14]/)
}

it('finds an archive that is cut within any section, and restores what does not need it', async () => {
  const { scene, taken } = await openHistory()
  const path = archivePath(scene, 2)
  const whole = readFileSync(path)
  const sections = await archiveSections(path)
  expect(sections.map(({ name }) => name).sort()).toEqual(sectionNames.toSorted())
  const cuts = sections.flatMap(({ offset, length }) => [offset, offset + Math.floor(length / 2)])
  for (const bytes of [0, ...cuts, whole.length - 1]) {
    overwrite(path, whole.subarray(0, bytes))
    await expectNamed(scene, path, new RegExp(`has ${bytes} bytes instead of ${whole.length}`))
    for (const point of [2, 3]) await expectRefused(scene, point, /archive of point #2/, /refpoint verify web01/)
  }
  for (const entry of taken.filter(({ point }) => point === 1 || point === 4)) await expectRestores(scene, entry)
  overwrite(path, whole)
  await expectVerifies(scene)
  for (const entry of taken) await expectRestores(scene, entry)
})

it('finds a bit that is flipped in any section, and never restores a wrong byte', async () => {
  const { scene, taken } = await openHistory()
  const [first, second, third, fourth] = taken
  if (first === undefined || second === undefined || third === undefined || fourth === undefined) throw new RangeError()
  const path = archivePath(scene, 2)
  const whole = readFileSync(path)
  for (const { name, offset, length } of await archiveSections(path)) {
    for (const part of [0, 0.3, 0.6, 0.999]) {
      const at = offset + Math.floor(length * part)
      const flipped = Buffer.from(whole)
      flipped[at] = (flipped[at] ?? 0) ^ (1 << at % 8)
      overwrite(path, flipped)
      await expectNamed(scene, path, /SHA-256 differs/)
      if (name.includes('/data/')) await expectRefused(scene, 2, /archive of point #2/)
      else await expectRightOrRefused(scene, second)
      await expectRightOrRefused(scene, third)
    }
    await expectRestores(scene, first)
    await expectRestores(scene, fourth)
  }
  overwrite(path, whole)
  await expectVerifies(scene)
})

it('goes on without an archive that is missing, and keeps no chain on it', async () => {
  const { scene, taken } = await openHistory()
  const path = archivePath(scene, 4)
  const whole = readFileSync(path)
  rmSync(path)
  const told = await scene.run(['verify'])
  expectTold(told, 13, /point #4 .*is missing/, /affects points: #4/)
  await expectRefused(scene, 4, /archive of point #4 .*is missing/)
  const { stderr } = await scene.ok(['backup'])
  expect(stderr).toMatch(/warning: .*archive of point #4 .*is missing/)
  expect(readManifest(scene, 5).parent).toBe(3)
  const content = taken.at(-1)?.content ?? Buffer.alloc(0)
  await expectRestores(scene, { point: 5, content })
  overwrite(path, whole)
  await expectVerifies(scene)
  for (const entry of taken) await expectRestores(scene, entry)
})

it('finds archives that were exchanged', async () => {
  const { scene, taken } = await openHistory()
  const [two, three] = [archivePath(scene, 2), archivePath(scene, 3)]
  const [second, third] = [readFileSync(two), readFileSync(three)]
  overwrite(two, third)
  overwrite(three, second)
  expectTold(await scene.run(['verify']), 13, /#2/, /#3/)
  expectTold(await scene.run(['verify', '--quick']), 13, /#2/, /#3/)
  for (const point of [2, 3]) await expectRefused(scene, point, /instead of|another point/)
  overwrite(two, second)
  overwrite(three, third)
  await expectVerifies(scene)
  for (const entry of taken) await expectRestores(scene, entry)
})

it('goes on from an older point, at last with a full, when the newest can not be read', async () => {
  const { scene, taken } = await openHistory()
  const content = taken.at(-1)?.content ?? Buffer.alloc(0)
  const damage = (point: number, byte: number): (() => void) => {
    const path = archivePath(scene, point)
    const whole = readFileSync(path)
    const flipped = Buffer.from(whole)
    const at = byte < 0 ? whole.length + byte : byte
    flipped[at] = (flipped[at] ?? 0) ^ 4
    overwrite(path, flipped)
    return () => overwrite(path, whole)
  }
  const heal = [damage(4, -3)]
  const { stderr } = await scene.ok(['backup'])
  expect(stderr).toMatch(/warning: point #4 can't be gone on from: .*seek table/)
  expect(readManifest(scene, 5).parent).toBe(3)
  await expectRestores(scene, { point: 5, content })
  expectTold(await scene.run(['verify']), 13, /affects points: #4$/m)

  heal.push(damage(5, -3), damage(1, -3))
  expectTold(await scene.run(['backup', '--incremental']), 2, /can't take an incremental: no earlier point is whole/)
  const { stdout } = await scene.ok(['backup'])
  expect(stdout).toMatch(/point #6, full.*no earlier point is whole/)
  await expectRestores(scene, { point: 6, content })
  for (const whole of heal) whole()
  await expectVerifies(scene)
  for (const entry of [...taken, { point: 5, content }]) await expectRestores(scene, entry)
})

it('passes over everything that builds on a damaged archive at once', async () => {
  const { scene, taken } = await openHistory()
  const content = taken.at(-1)?.content ?? Buffer.alloc(0)
  // #3 builds on #2, whose archive is found damaged in reading it; #1 is whole.
  for (const point of [2, 4]) {
    const flipped = readFileSync(archivePath(scene, point))
    flipped[flipped.length - 3] = (flipped[flipped.length - 3] ?? 0) ^ 4
    overwrite(archivePath(scene, point), flipped)
  }
  const { stderr } = await scene.ok(['backup'])
  const told = stderr.split('\n').filter((line) => line.includes("can't be gone on from"))
  expect(told).toEqual([expect.stringMatching(/point #4 .*seek table/), expect.stringMatching(/point #3 .*seek table/)])
  expect(readManifest(scene, 5).parent).toBe(1)
  await expectRestores(scene, { point: 5, content })
})
