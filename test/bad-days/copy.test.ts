import { execFileSync, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { runSeed } from '../trackers/disk/random.js'
import {
  archivePath,
  changed,
  editManifest,
  expectSame,
  expectTold,
  filesBelow,
  openScene,
  overwrite,
  restoreWithoutRefpoint,
  type Scene,
  type Taken,
  takeHistory,
} from './scene.js'

const asRoot = process.getuid?.() === 0

const configuration = `
repository: ./repository
repositories: { offsite: ./offsite }
machines:
  web01:
    tracker: image
    stores: { root: ./root.img }
`

const kept = (rules: string): string => `${configuration}    keep: ${rules}\n`

const bytes = 600_576

async function openHistory(): Promise<{ scene: Scene; taken: readonly Taken[] }> {
  const scene = openScene(configuration, { within: true })
  const taken = await takeHistory(scene, bytes)
  await scene.ok(['init', scene.path('offsite')])
  return { scene, taken }
}

async function backUp(scene: Scene, point: number, content: Buffer, ...flags: readonly string[]): Promise<Taken> {
  writeFileSync(scene.path('root.img'), content)
  await scene.ok(['backup', ...flags])
  return { point, content }
}

interface Listed {
  point: number
  parent: number | null
  machineUuid: string
  time: string
  stores: { contentSum: string }[]
  archive: { name: string; bytes: number; sha256: string }
}

async function pointsIn(scene: Scene, repository: string): Promise<Listed[]> {
  const { stdout } = await scene.ok(['points', 'web01', '--json', '--repository', scene.path(repository)])
  return (JSON.parse(stdout) as { machines: { points: Listed[] }[] }).machines[0]?.points ?? []
}

const numbers = (points: readonly Listed[]): number[] => points.map(({ point }) => point)

let count = 0

/** A copy has just these points, each restores to what it was, and nothing in it is damaged or left over. */
async function expectCopy(scene: Scene, taken: readonly Taken[], repository = 'offsite'): Promise<void> {
  const points = await pointsIn(scene, repository)
  expect(numbers(points)).toEqual(taken.map(({ point }) => point))
  expect((await scene.ok(['verify', '--repository', scene.path(repository)])).stdout).toMatch(/nothing is damaged/)
  const archives = filesBelow(scene.path(repository, 'machines/web01/archives'))
  expect(archives).toEqual(points.map(({ archive }) => archive.name.split('/').at(-1)).sort())
  for (const { point, content } of taken) {
    const folder = scene.path(`copied-${(count += 1)}`)
    await scene.ok(['restore', 'web01', '--at', String(point), '--to', folder, '--repository', scene.path(repository)])
    expectSame(readFileSync(join(folder, 'root.raw')), content, `point #${point} of ${repository}`)
  }
}

/** Bytes of a repository's archives, by name. */
function archivesOf(scene: Scene, repository: string): string[] {
  return filesBelow(scene.path(repository, 'machines/web01/archives'))
}

it('copies points with their numbers, parents and content, and then only what is missing', async () => {
  const { scene, taken } = await openHistory()
  expect((await scene.ok(['copy', '--to', 'offsite'])).stdout).toMatch(/web01: copied 4 points .* 0 were there/)
  const origin = await pointsIn(scene, 'repository')
  const identity = ({ point, parent, machineUuid, time, stores, archive: { sha256 } }: Listed): unknown => ({ point, parent, machineUuid, time, stores, sha256 })
  expect((await pointsIn(scene, 'offsite')).map(identity)).toEqual(origin.map(identity))
  await expectCopy(scene, taken)
  for (const { point, content } of taken) {
    expectSame(await restoreWithoutRefpoint(scene.path('offsite'), 'root', point), content, `#${point} without refpoint`)
  }
  const before = archivesOf(scene, 'offsite')
  expect((await scene.ok(['copy', 'web01', '--to', scene.path('offsite')])).stdout).toMatch(/copied 0 points \(0 B\) .* 4 were there/)
  expect(archivesOf(scene, 'offsite')).toEqual(before)
  const fifth = await backUp(scene, 5, changed(taken[3]?.content ?? Buffer.alloc(0), 5))
  const json = await scene.ok(['copy', '--to', 'offsite', '--json'])
  expect(JSON.parse(json.stdout)).toMatchObject({ machines: [{ machine: 'web01', copied: [5], there: [1, 2, 3, 4], damage: [] }] })
  expect(archivesOf(scene, 'offsite')).toEqual(expect.arrayContaining(before))
  await expectCopy(scene, [...taken, fifth])
})

it('copies the newest points with what they build on', async () => {
  const { scene, taken } = await openHistory()
  const fifth = await backUp(scene, 5, changed(taken[3]?.content ?? Buffer.alloc(0), 5))
  await scene.ok(['copy', '--to', 'offsite', '--last', '1'])
  await expectCopy(scene, [...taken.slice(3), fifth])
  await scene.ok(['copy', '--to', 'offsite'])
  await expectCopy(scene, [...taken, fifth])
  expectTold(await scene.run(['copy', '--to', 'offsite', '--last', 'x']), 2, /no number from 1 on/)
})

it('knows a point again however either side was pruned, and brings back nothing that was pruned in the copy', async () => {
  const { scene, taken } = await openHistory()
  await scene.ok(['copy', '--to', 'offsite'])
  let content = taken[3]?.content ?? Buffer.alloc(0)
  const more: Taken[] = []
  for (const point of [5, 6, 7]) more.push(await backUp(scene, point, (content = changed(content, point))))
  const all = [...taken, ...more]

  // The source keeps fewer than the copy has. A prune takes a number, as a point does.
  scene.configure(kept('{ last: 2 }'))
  await scene.ok(['prune'])
  const left = numbers(await pointsIn(scene, 'repository'))
  expect(left.length).toBeLessThan(7)
  expect((await scene.ok(['copy', '--to', 'offsite'])).stdout).toMatch(/copied \d points/)
  const copied = numbers(await pointsIn(scene, 'offsite'))
  expect(copied).toEqual([...new Set([1, 2, 3, 4, ...left])].sort((a, b) => a - b))
  await expectCopy(scene, all.filter(({ point }) => copied.includes(point)))

  // Then the copy by rules of its own.
  scene.configure(kept('{ last: 1 }').replace('repository: ./repository', 'repository: ./offsite'))
  await scene.ok(['prune'])
  const pruned = numbers(await pointsIn(scene, 'offsite'))
  expect(pruned.length).toBeLessThan(copied.length)
  await expectCopy(scene, all.filter(({ point }) => pruned.includes(point)))
  scene.configure(configuration)
  await scene.ok(['copy', '--to', 'offsite'])
  expect(numbers(await pointsIn(scene, 'offsite'))).toEqual(pruned)
  const next = await backUp(scene, 9, changed(content, 9))
  await scene.ok(['copy', '--to', 'offsite'])
  const point = numbers(await pointsIn(scene, 'repository')).at(-1) ?? 0
  await expectCopy(scene, [...all.filter((entry) => pruned.includes(entry.point)), { ...next, point }])

  // And a new copy of the pruned source has what that has.
  await scene.ok(['init', scene.path('third')])
  await scene.ok(['copy', '--to', 'third'])
  expect(numbers(await pointsIn(scene, 'third'))).toEqual(numbers(await pointsIn(scene, 'repository')))
  expect((await scene.ok(['verify', '--repository', scene.path('third')])).stdout).toMatch(/nothing is damaged/)
})

it('copies by the rules of the configuration', async () => {
  const { scene, taken } = await openHistory()
  expectTold(await scene.run(['copy', '--to', 'offsite', '--by-rules']), 2, /no rules/)
  scene.configure(kept('{ daily: 1 }'))
  await scene.ok(['copy', '--to', 'offsite', '--by-rules'])
  await expectCopy(scene, taken.slice(3))
})

it('tells damage every night, copies all else, and copies what was damaged when it is whole again', async () => {
  const { scene, taken } = await openHistory()
  const path = archivePath(scene, 2)
  const whole = readFileSync(path)
  const bad = Buffer.from(whole)
  bad[Math.floor(bad.length / 2)] = (bad[Math.floor(bad.length / 2)] ?? 0) ^ 1
  for (const broken of [bad, whole.subarray(0, 1000)]) {
    overwrite(path, broken)
    for (let night = 0; night < 2; night++) {
      const told = await scene.run(['copy', '--to', 'offsite'])
      expectTold(told, 13, /damaged: machine 'web01': the archive of point #2/, /not in the copy: #2, #3/)
      await expectCopy(scene, taken.filter(({ point }) => point === 1 || point === 4))
    }
  }
  overwrite(path, whole)
  expect((await scene.ok(['copy', '--to', 'offsite'])).stdout).toMatch(/copied 2 points/)
  await expectCopy(scene, taken)
  // What the copy has is not touched by damage of the source.
  rmSync(path)
  rmSync(join(scene.repository, 'machines/web01/points/00000003.json'))
  const told = await scene.run(['copy', '--to', 'offsite'])
  expectTold(told, 13, /the manifest of point #3 is missing/)
  await expectCopy(scene, taken)
})

it('makes a copy whole again that lost archives or manifests', async () => {
  const { scene, taken } = await openHistory()
  await scene.ok(['copy', '--to', 'offsite'])
  const points = await pointsIn(scene, 'offsite')
  rmSync(scene.path('offsite', points[0]?.archive.name ?? ''))
  overwrite(scene.path('offsite', points[3]?.archive.name ?? ''), 'short')
  const manifest = readdirSync(scene.path('offsite/machines/web01/points')).find((name) => name.startsWith('00000002.'))
  rmSync(scene.path('offsite/machines/web01/points', manifest ?? ''))
  expect((await scene.run(['verify', '--repository', scene.path('offsite')])).status).toBe(13)
  expect((await scene.ok(['copy', '--to', 'offsite'])).stdout).toMatch(/copied 3 points/)
  await scene.ok(['copy', '--to', 'offsite'])
  await expectCopy(scene, taken)
})

it('refuses what is no copy of this machine, and changes nothing', async () => {
  const { scene, taken } = await openHistory()
  expectTold(await scene.run(['copy', '--to', scene.path('nowhere')]), 10, /no repository/)
  expectTold(await scene.run(['copy', '--to', scene.repository]), 2, /is the repository that is copied/)
  expectTold(await scene.run(['copy', 'db01', '--to', 'offsite']), 2, /no machine 'db01'/)
  cpSync(scene.repository, scene.path('twin'), { recursive: true })
  expectTold(await scene.run(['copy', '--to', 'twin']), 2, /a copy of its files/)

  await scene.ok(['copy', '--to', 'offsite'])
  const before = filesBelow(scene.path('offsite'))
  editManifest(scene, 3, (manifest) => (manifest.time = '2001-01-01T00:00:00.000Z'))
  const told = await scene.run(['copy', '--to', 'offsite'])
  expectTold(told, 13, /point #3 .* is not the same in both repositories/, /put back to an earlier state/)
  expect(filesBelow(scene.path('offsite')).filter((name) => !name.includes('locks'))).toEqual(before.filter((name) => !name.includes('locks')))

  // Another machine of that name.
  rmSync(scene.repository, { recursive: true })
  await scene.ok(['init'])
  await scene.ok(['backup'])
  expectTold(await scene.run(['copy', '--to', 'offsite']), 2, /is another machine/)
  await expectCopy(scene, taken)
})

it('takes the place of a lost repository when it is told to, and can be copied back', async () => {
  const { scene, taken } = await openHistory()
  await scene.ok(['copy', '--to', 'offsite'])
  rmSync(scene.repository, { recursive: true })
  scene.configure(configuration.replace('repository: ./repository', 'repository: ./offsite'))
  const content = changed(taken[3]?.content ?? Buffer.alloc(0), 77)
  writeFileSync(scene.path('root.img'), content)
  expectTold(await scene.run(['backup']), 2, /is a copy: its backups go elsewhere/, /--adopt/)
  expect((await scene.ok(['backup', '--adopt'])).stdout).toMatch(/incremental/)
  const point = numbers(await pointsIn(scene, 'offsite')).at(-1) ?? 0
  const all = [...taken, { point, content }]
  await expectCopy(scene, all)
  await scene.ok(['init', scene.repository])
  await scene.ok(['copy', '--to', scene.repository])
  await expectCopy(scene, all, 'repository')
})

async function killedAt(scene: Scene, change: number): Promise<boolean> {
  const script = join(import.meta.dirname, 'copy-kill.mjs')
  const args = [script, scene.repository, scene.path('offsite'), 'web01', String(change)]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'inherit'] })
  onTestFinished(() => void child.kill('SIGKILL'))
  const [code, signal] = await new Promise<[number | null, string | null]>((done) => child.on('exit', (...how) => done(how)))
  if (signal === null) expect(code).toBe(0)
  return signal === 'SIGKILL'
}

const seed = runSeed()
/** Every other change, from the first or the second on: all of them only in the long form. */
const stride = process.env['REFPOINT_LONG'] === '1' ? 1 : 2

it(`can be killed before a change of the target, and goes on (seed ${seed})`, { timeout: 600_000 }, async () => {
  const { scene, taken } = await openHistory()
  let kills = 0
  for (let change = 1 + (seed % stride); await killedAt(scene, change); change += stride) {
    kills += 1
    // What is there so far is whole.
    expect((await scene.run(['verify', '--quick', '--repository', scene.path('offsite')])).status).toBe(0)
    if (change % 3 === 0) {
      expect((await scene.ok(['copy', '--to', 'offsite'])).stdout).toMatch(/web01: copied/)
      expect(numbers(await pointsIn(scene, 'offsite'))).toEqual([1, 2, 3, 4])
      expect(archivesOf(scene, 'offsite')).toHaveLength(4)
      expect((await scene.run(['verify', '--repository', scene.path('offsite')])).status).toBe(0)
    }
    if (change % 3 === 0 || change % 4 === 0) {
      rmSync(scene.path('offsite'), { recursive: true })
      await scene.ok(['init', scene.path('offsite')])
    }
  }
  expect(kills).toBeGreaterThan(5)
  await scene.ok(['copy', '--to', 'offsite'])
  await expectCopy(scene, taken)
})

it('never mixes with another copy', async () => {
  const { scene, taken } = await openHistory()
  for (let round = 0; round < 2; round++) {
    const both = await Promise.all([1, 2].map(() => scene.start(['copy', '--to', 'offsite']).told))
    for (const { status, stderr } of both) expect([0, 11], stderr).toContain(status)
    expect(both.some(({ status }) => status === 0)).toBe(true)
    await expectCopy(scene, taken)
    rmSync(scene.path('offsite'), { recursive: true })
    await scene.ok(['init', scene.path('offsite')])
  }
})

it('copies from a repository that can not be written to', async () => {
  const { scene, taken } = await openHistory()
  const folders = [scene.repository, ...readdirSync(scene.repository, { recursive: true, withFileTypes: true }).filter((entry) => entry.isDirectory()).map((entry) => join(entry.parentPath, entry.name))]
  for (const folder of folders) chmodSync(folder, 0o500)
  onTestFinished(() => folders.forEach((folder) => chmodSync(folder, 0o700)))
  // Root may write all the same; the copy must work either way.
  await scene.ok(['copy', '--to', 'offsite'])
  await expectCopy(scene, taken)
})

describe.skipIf(!asRoot)('a target that is full (needs root)', () => {
  it('costs nothing but the run that filled it', async () => {
    const scene = openScene(configuration, { within: true })
    const target = scene.path('offsite')
    mkdirSync(target)
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'none', target])
    onTestFinished(() => void execFileSync('umount', ['--lazy', target]))
    await scene.ok(['init'])
    await scene.ok(['init', target])
    const taken = [await backUp(scene, 1, randomBytes(200_192))]
    await scene.ok(['copy', '--to', 'offsite'])
    taken.push(await backUp(scene, 2, randomBytes(4 * 1024 * 1024)))
    for (let night = 0; night < 2; night++) {
      expectTold(await scene.run(['copy', '--to', 'offsite']), 1, /no space left/, /Free/)
      await expectCopy(scene, taken.slice(0, 1))
    }
    execFileSync('mount', ['-o', 'remount,size=32m', target])
    await scene.ok(['copy', '--to', 'offsite'])
    await expectCopy(scene, taken)
    expect(existsSync(target)).toBe(true)
  })
})
