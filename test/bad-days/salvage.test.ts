import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { Random, runSeed } from '../trackers/disk/random.js'
import { archiveSections } from './archive-sections.js'
import {
  archivePath,
  changed,
  contentOf,
  expectSame,
  expectTold,
  filesBelow,
  manifestPath,
  oneImage,
  openScene,
  overwrite,
  readManifest,
  type Scene,
  type Taken,
  takeHistory,
  type Told,
} from './scene.js'

const blockBytes = 65_536

interface Range {
  readonly kind: 'lost' | 'older' | 'unchecked'
  readonly offset: number
  readonly length: number
  readonly point: number | null
  readonly archive: string | null
  readonly reason: string
}

interface Salvaged {
  readonly told: Told
  readonly folder: string
  readonly disk: Buffer
  readonly ranges: readonly Range[]
}

async function openHistory(): Promise<{ scene: Scene; taken: readonly Taken[] }> {
  const scene = openScene(`${oneImage}    files: { vm.xml: ./refpoint.yaml }\n`, { within: true })
  return { scene, taken: await takeHistory(scene, 3 * 1024 * 1024 + 512) }
}

let count = 0

/**
 * Salvages a point, and expects of it what is promised of every salvage: what is not listed is right, what is lost is
 * zeroes, no file looks like a restored disk, and the status is 0 only when nothing is listed.
 */
async function salvage(
  scene: Scene,
  { point, content }: Taken,
  flags: readonly string[] = [],
  history: readonly Taken[] = [],
): Promise<Salvaged> {
  count += 1
  const folder = scene.path(`salvaged-${count}`)
  const told = await scene.run(['salvage', 'web01', '--at', String(point), '--to', folder, ...flags])
  expect([0, 13], told.stderr).toContain(told.status)
  if (told.status === 13) expectTold(told, 13, /was salvaged, but is not whole/)
  expect(existsSync(join(folder, 'root.raw'))).toBe(false)
  const disk = readFileSync(join(folder, 'root.salvaged.raw'))
  expect(disk.length).toBe(content.length)
  const list = JSON.parse(readFileSync(join(folder, 'salvage.json'), 'utf8')) as {
    whole: boolean
    stores: { store: string; provenBytes: number; lost: Range[]; suspects: string[] }[]
  }
  expect(list.whole).toBe(told.status === 0)
  const [store] = list.stores
  if (store === undefined) throw new Error('the list has no store')
  const expected = Buffer.from(content)
  if (store.suspects.length > 0) admitOlder(disk, expected, history)
  let proven = content.length
  let end = 0
  for (const { kind, offset, length } of store.lost) {
    expect(offset % blockBytes).toBe(0)
    expect(offset).toBeGreaterThanOrEqual(end)
    end = offset + length
    expect(end % blockBytes === 0 || end === content.length).toBe(true)
    if (kind === 'lost') expected.fill(0, offset, end)
    else disk.copy(expected, offset, offset, end)
    proven -= length
  }
  expectSame(disk, expected, `point #${point} in ${folder}`)
  expect(store.provenBytes).toBe(store.suspects.length > 0 ? 0 : proven)
  return { told, folder, disk, ranges: store.lost }
}

/** Where tables may be damaged, a block may be of another age, as is told; but it is one that the disk has had. */
function admitOlder(disk: Buffer, expected: Buffer, history: readonly Taken[]): void {
  for (let at = 0; at < disk.length; at += blockBytes) {
    const block = disk.subarray(at, at + blockBytes)
    if (history.some(({ content }) => content.subarray(at, at + blockBytes).equals(block))) block.copy(expected, at)
  }
}

const lostBytes = (ranges: readonly Range[]): number => ranges.reduce((sum, { length }) => sum + length, 0)

/** The blocks in which two states of a disk differ. */
function differing(one: Buffer, other: Buffer): Set<number> {
  const blocks = new Set<number>()
  for (let at = 0; at < one.length; at += blockBytes) {
    if (!one.subarray(at, at + blockBytes).equals(other.subarray(at, at + blockBytes))) blocks.add(at / blockBytes)
  }
  return blocks
}

const blocksOf = (ranges: readonly Range[]): number[] =>
  ranges.flatMap(({ offset, length }) => Array.from({ length: Math.ceil(length / blockBytes) }, (_, n) => offset / blockBytes + n))

it('restores all of a point that is whole', async () => {
  const { scene, taken } = await openHistory()
  for (const entry of taken) {
    const { told, ranges, folder } = await salvage(scene, entry)
    expect(told.status, told.stderr).toBe(0)
    expect(ranges).toEqual([])
    expect(filesBelow(folder)).toEqual(['config/vm.xml', 'root.salvaged.raw', 'salvage.json'])
  }
})

it('lists just the blocks that a damaged frame held, with archive and reason, as text and as JSON', async () => {
  const { scene, taken } = await openHistory()
  const path = archivePath(scene, 1)
  const data = (await archiveSections(path)).find(({ name }) => name === 'stores/root/data/0')
  if (data === undefined) throw new Error('no data')
  const bytes = readFileSync(path)
  // Its header: what damage further in costs depends on the codec that made the frame.
  bytes.fill(0xee, data.offset, data.offset + 4)
  overwrite(path, bytes)
  const third = taken[2]
  if (third === undefined) throw new Error('no third point')
  const { told, ranges, folder } = await salvage(scene, third)
  expect(told.status).toBe(13)
  expect(lostBytes(ranges)).toBeGreaterThan(0)
  expect(lostBytes(ranges)).toBeLessThanOrEqual(1024 * 1024)
  for (const range of ranges) {
    expect(range).toMatchObject({ kind: 'lost' })
    expect(range.reason).toMatch(/frame \d+ can't be read|does not have its digest/)
  }
  expect(ranges.some(({ point, archive }) => point === 1 && archive === readManifest(scene, 1).archive.name)).toBe(true)
  expect(told.stdout).toMatch(/root: .* proven, at .*root\.salvaged\.raw/)
  expect(told.stdout).toMatch(/lost, zeroes now: bytes \d+ to \d+ .*: point #1: frame/)
  expectTold(told, 13, /salvage\.json/)

  const again = await scene.run(['salvage', 'web01', '--at', '3', '--to', folder])
  expectTold(again, 2, /exists/, /--force/)
  const json = await scene.run(['salvage', 'web01', '--at', '3', '--to', folder, '--force', '--json'])
  expect(json).toMatchObject({ status: 13, stdout: '' })
  const error = JSON.parse(json.stderr.trim().split('\n').at(-1) ?? '') as { fields: { stores: unknown } }
  expect(error.fields.stores).toMatchObject([{ store: 'root', lost: ranges }])
})

it('does not take content of the wrong age for restored, unless it is asked for, and then it is listed', async () => {
  const { scene, taken } = await openHistory()
  const [first, second, third] = taken
  if (first === undefined || second === undefined || third === undefined) throw new Error('no three points')
  rmSync(archivePath(scene, 2))
  const newest = differing(second.content, third.content)
  const { ranges } = await salvage(scene, third)
  // What the third point's archive speaks of is proven or not; of all else nobody knows whether the second changed it.
  for (const block of blocksOf(ranges)) {
    if (newest.has(block)) expect(differing(first.content, second.content).has(block)).toBe(true)
  }
  expect(ranges.every(({ point, reason }) => point === 2 && /archive of point #2 .* is missing/.test(reason))).toBe(true)

  const older = await salvage(scene, third, ['--with-older'])
  expect(older.told.status).toBe(13)
  expect(blocksOf(older.ranges)).toEqual(blocksOf(ranges))
  const wrong = older.ranges.filter(({ kind }) => kind === 'older')
  expect(lostBytes(wrong)).toBeGreaterThan(0)
  for (const { offset, length } of wrong) {
    expectSame(older.disk.subarray(offset, offset + length), first.content.subarray(offset, offset + length), 'older content')
  }
})

it('proves a point whole, by its sum, where a lost archive held only what was written again later', async () => {
  const scene = openScene(oneImage, { within: true })
  await scene.ok(['init'])
  const content = contentOf(1, 1024 * 1024)
  for (const fill of [0, 1, 2, 3]) {
    content.fill(fill, 200_000, 300_000)
    writeFileSync(scene.path('root.img'), content)
    await scene.ok(['backup'])
  }
  rmSync(archivePath(scene, 2))
  rmSync(archivePath(scene, 3))
  expect((await scene.run(['restore', 'web01', '--at', '4', '--to', scene.path('no')])).status).toBe(13)
  const { told } = await salvage(scene, { point: 4, content })
  expect(told.status, told.stderr).toBe(0)
  expect(told.stdout).toMatch(/salvaged all of point #4/)
})

it.each([
  ['the full', (scene: Scene) => rmSync(archivePath(scene, 1))],
  ['its own archive', (scene: Scene) => rmSync(archivePath(scene, 3))],
  ['every archive', (scene: Scene) => [1, 2, 3].forEach((point) => rmSync(archivePath(scene, point)))],
  ['a manifest', (scene: Scene) => rmSync(manifestPath(scene, 2))],
  ['the manifest of the full', (scene: Scene) => overwrite(manifestPath(scene, 1), 'not JSON')],
])('is honest where %s is lost', async (_what, lose) => {
  const { scene, taken } = await openHistory()
  lose(scene)
  const third = taken[2]
  if (third === undefined) throw new Error('no third point')
  for (const flags of [[], ['--with-older']]) {
    const { told, ranges } = await salvage(scene, third, flags)
    expect(told.status).toBe(13)
    expect(lostBytes(ranges)).toBeGreaterThan(0)
  }
})

it('is honest whatever section of whichever archive is damaged', async () => {
  const { scene, taken } = await openHistory()
  const third = taken[2]
  if (third === undefined) throw new Error('no third point')
  for (const point of [1, 2, 3]) {
    const path = archivePath(scene, point)
    const whole = readFileSync(path)
    for (const { offset, length } of await archiveSections(path)) {
      const bytes = Buffer.from(whole)
      bytes.fill(0xa5, offset + Math.floor(length / 3), offset + Math.floor(length / 3) + 40)
      overwrite(path, bytes)
      await salvage(scene, third, [], taken)
    }
    overwrite(path, whole)
  }
})

const seed = runSeed()
const rounds = process.env['REFPOINT_LONG'] === '1' ? 400 : 25

it(`is honest about ${rounds} random damages of a chain of eight (seed ${seed})`, async () => {
  const random = new Random(seed)
  const scene = openScene(oneImage, { within: true })
  await scene.ok(['init'])
  const taken: Taken[] = []
  let content = contentOf(seed, 2 * 1024 * 1024 + 1024)
  for (let point = 1; point <= 8; point++) {
    if (point > 1) content = changed(content, random.below(1e6), random.pick([3, 40, 170]))
    if (point === 5) content = Buffer.concat([content, contentOf(point, 300_032)])
    writeFileSync(scene.path('root.img'), content)
    await scene.ok(['backup'])
    taken.push({ point, content })
  }
  const paths = taken.map(({ point }) => archivePath(scene, point))
  const originals = new Map([...paths, ...taken.map(({ point }) => manifestPath(scene, point))].map((path) => [path, readFileSync(path)]))
  for (let round = 0; round < rounds; round++) {
    for (let hits = random.below(3); hits >= 0; hits--) {
      const path = random.pick(paths)
      const bytes = Buffer.from(originals.get(path) ?? Buffer.alloc(0))
      const at = random.below(bytes.length)
      switch (random.below(4)) {
        case 0:
          rmSync(path, { force: true })
          break
        case 1:
          overwrite(path, bytes.subarray(0, at))
          break
        default:
          overwrite(path, Buffer.concat([bytes.subarray(0, at), Buffer.alloc(Math.min(3000, bytes.length - at), 7), bytes.subarray(Math.min(bytes.length, at + 3000))]))
      }
    }
    if (random.chance(0.2)) rmSync(manifestPath(scene, 1 + random.below(7)), { force: true })
    const known = taken.filter(({ point }) => existsSync(manifestPath(scene, point)))
    await salvage(scene, random.pick(known), random.chance(0.3) ? ['--with-older'] : [], taken)
    for (const [path, bytes] of originals) overwrite(path, bytes)
  }
})
