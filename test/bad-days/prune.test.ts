import { execFileSync, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it, onTestFinished } from 'vitest'
import { describeWith } from '../layers.js'
import {
  archivePath,
  changed,
  contentOf,
  expectRestores,
  expectSame,
  expectTold,
  expectVerifies,
  filesBelow,
  openScene,
  overwrite,
  restoreWithoutRefpoint,
  type Scene,
  type Taken,
} from './scene.js'

const withRules = (rules: string): string => `
repository: ./repository
defaults: { keep: ${rules} }
machines:
  web01:
    tracker: image
    stores: { root: ./root.img }
`

const bytes = 3 * 1024 * 1024 + 512

/** Histories by their length: taken once, copied then. */
const kept = mkdtempSync(join(tmpdir(), 'refpoint-test-'))
const histories = new Map<number, readonly Taken[]>()
afterAll(() => rmSync(kept, { recursive: true, force: true }))

/** A full and incrementals on it, all of one content that changes. */
async function takeChain(scene: Scene, count: number): Promise<readonly Taken[]> {
  const repository = scene.path(/repository: (.*)/.exec(readFileSync(scene.path('refpoint.yaml'), 'utf8'))?.[1] ?? '')
  const known = histories.get(count)
  if (known !== undefined) {
    cpSync(join(kept, String(count)), repository, { recursive: true })
    writeFileSync(scene.path('root.img'), known.at(-1)?.content ?? '')
    return known
  }
  const taken = await takeNew(scene, count)
  cpSync(repository, join(kept, String(count)), { recursive: true })
  histories.set(count, taken)
  return taken
}

async function takeNew(scene: Scene, count: number): Promise<readonly Taken[]> {
  await scene.ok(['init'])
  const taken: Taken[] = []
  let content = contentOf(1, bytes)
  for (let point = 1; point <= count; point += 1) {
    if (point > 1) content = changed(content, point)
    writeFileSync(scene.path('root.img'), content)
    await scene.ok(['backup'])
    taken.push({ point, content })
  }
  return taken
}

interface Listed {
  readonly machines: readonly { readonly points: readonly { readonly point: number }[] }[]
}

async function listed(scene: Scene): Promise<readonly number[]> {
  const { stdout } = await scene.ok(['points', 'web01', '--json'])
  return (JSON.parse(stdout) as Listed).machines.flatMap(({ points }) => points.map(({ point }) => point))
}

/** Just these points are there, each is what it was, for both readers, and nothing else is in the repository. */
async function expectJust(scene: Scene, taken: readonly Taken[]): Promise<void> {
  expect(await listed(scene)).toEqual(taken.map(({ point }) => point))
  for (const each of taken) await expectRestores(scene, each)
  await expectVerifies(scene)
  expect(archives(scene)).toHaveLength(taken.length)
}

function archives(scene: Scene): readonly string[] {
  return readdirSync(join(scene.repository, 'machines/web01/archives'))
}

/** What a prune may change: everything but locks. */
function stateOf(scene: Scene): readonly string[] {
  return filesBelow(scene.repository).filter((name) => !name.includes('/locks/'))
}

describe('prune', () => {
  it('tells what it would do and changes nothing, and then does it', async () => {
    const scene = openScene(withRules('{ last: 2 }'), { within: true })
    const taken = await takeChain(scene, 5)
    const before = stateOf(scene)
    const preview = await scene.ok(['prune', 'web01', '--dry-run'])
    expect(preview.stdout).toMatch(/web01: 2 points stay, 3 go/)
    expect(preview.stdout).toMatch(/#1 .* goes, what others need of it into #4/)
    expect(preview.stdout).toMatch(/#4 .* stays: last \(folded\)/)
    expect(preview.stdout).toMatch(/#5 .* stays: newest, last$/m)
    expect(preview.stdout).toMatch(/would free .* nothing was changed/)
    expect(stateOf(scene)).toEqual(before)

    const { stdout } = await scene.ok(['prune', '--json'])
    expect(JSON.parse(stdout)).toMatchObject({
      dryRun: false,
      machines: [{ machine: 'web01', slot: 6, dropped: [1, 2, 3], folds: [{ target: 4, parent: null }], deferredObjects: 0 }],
    })
    await expectJust(scene, taken.slice(3))
    expect((await scene.ok(['prune'])).stdout).toMatch(/nothing to do/)
    // The chain goes on where it was.
    const content = changed(taken[4]?.content ?? Buffer.alloc(0), 9)
    writeFileSync(scene.path('root.img'), content)
    expect((await scene.ok(['backup', '--incremental'])).stdout).toMatch(/point #7, incremental/)
    await scene.ok(['prune'])
    await expectJust(scene, [...taken.slice(4), { point: 7, content }])
  })

  it('keeps what is held, until it is released', async () => {
    const scene = openScene(withRules('{ last: 1 }'), { within: true })
    const taken = await takeChain(scene, 4)
    await scene.ok(['hold', 'web01', '2', '--why', 'before the migration'])
    expect((await scene.ok(['points', 'web01'])).stdout).toMatch(/#2 is held: before the migration/)
    expect((await scene.ok(['prune'])).stdout).toMatch(/#2 .*stays: held/)
    await expectJust(scene, [taken[1], taken[3]].flatMap((each) => each ?? []))
    await scene.ok(['release', 'web01', '2'])
    expectTold(await scene.run(['release', 'web01', '2']), 2, /not held/)
    expectTold(await scene.run(['hold', 'web01', '9', '--why', 'x']), 2, /no point #9/)
    expectTold(await scene.run(['hold', 'web01', '4', '--why', ' ']), 2, /--why is empty/)
    await scene.ok(['prune'])
    await expectJust(scene, taken.slice(3))
  })

  it('refuses to do nothing: without rules, without points, for a machine that nobody knows', async () => {
    const scene = openScene(withRules('{ last: 1 }').replace(/defaults.*\n/, ''), { within: true })
    await takeChain(scene, 1)
    expectTold(await scene.run(['prune']), 2, /no machine has rules/, /keep: \{ last: 7/)
    expectTold(await scene.run(['prune', 'web01']), 2, /machine 'web01' has no rules/)
    expectTold(await scene.run(['prune', 'web02']), 2, /no machine 'web02' in the configuration/)
    const empty = openScene(withRules('{ last: 1 }'), { within: true })
    await empty.ok(['init'])
    expectTold(await empty.run(['prune']), 2, /there is no machine 'web01'/)
  })

  it('keeps the newest point that is whole when newer ones are not, and lets no damaged one be folded', async () => {
    const scene = openScene(withRules('{ last: 1 }'), { within: true })
    const taken = await takeChain(scene, 5)
    rmSync(archivePath(scene, 4))
    const { stdout } = await scene.ok(['prune'])
    expect(stdout).toMatch(/#3 .*stays: newest, last/)
    expect(stdout).toMatch(/#5 .*stays: newest, last \(damaged\)/)
    await expectRestores(scene, taken[2] ?? { point: 3, content: Buffer.alloc(0) })
    expect(await listed(scene)).toEqual([1, 2, 3, 4, 5])
    // The next backup goes on from what is whole; then what is damaged and named by no rule can go.
    expect((await scene.ok(['backup'])).stdout).toMatch(/compared with point #3/)
    await scene.ok(['prune'])
    const content = taken[4]?.content ?? Buffer.alloc(0)
    await expectJust(scene, [{ point: 6, content }])
  })

  it('keeps what is whole when a verify found the newest damaged', async () => {
    const scene = openScene(withRules('{ last: 1 }'), { within: true })
    const taken = await takeChain(scene, 5)
    const path = archivePath(scene, 5)
    const archive = readFileSync(path)
    const flipped = Buffer.from(archive)
    flipped.writeUInt8(flipped.readUInt8(flipped.length >> 1) ^ 1, flipped.length >> 1)
    overwrite(path, flipped)
    expect((await scene.ok(['prune', '--dry-run'])).stdout).toMatch(/1 points stay, 4 go|#5 .*stays: newest, last$/m)
    expectTold(await scene.run(['verify']), 13, /damaged/)
    const { stdout } = await scene.ok(['prune'])
    expect(stdout).toMatch(/#4 .*stays: newest, last/)
    expect(stdout).toMatch(/#5 .*stays: newest, last \(damaged\)/)
    await expectRestores(scene, taken[3] ?? { point: 4, content: Buffer.alloc(0) })
  })

  it('changes nothing where a manifest is lost, and neither does a backup', async () => {
    const scene = openScene(withRules('{ last: 1 }'), { within: true })
    const taken = await takeChain(scene, 3)
    const lost = join(scene.repository, 'machines/web01/points')
    cpSync(lost, scene.path('kept'), { recursive: true })
    rmSync(lost, { recursive: true })
    expectTold(await scene.run(['prune']), 13, /can't be pruned: the manifest of points #1 to #2 is missing/)
    const { stderr, stdout } = await scene.ok(['backup'])
    expect(stderr).toMatch(/the manifest of points #1 to #2 is missing/)
    expect(stdout).toMatch(/point #3, full/)
    expect(archives(scene)).toHaveLength(4)
    // Put back, all is there again but the one whose number was the newest.
    for (const name of readdirSync(scene.path('kept'))) cpSync(scene.path('kept', name), join(lost, name), { force: false })
    for (const each of taken.slice(0, 2)) await expectRestores(scene, each)
  })

  const steps = ['locked', 'tidied', 'planned', 'written', 'folded', 'revised', 'checked', 'committed', 'removed']
  it.each(steps)('killed at "%s" has happened or has not, and the next one makes good for it', async (step) => {
    const scene = openScene(withRules('{ last: 2 }'), { within: true })
    const taken = await takeChain(scene, 5)
    const child = spawn(process.execPath, atStep(scene, step, 'SIGKILL'), { stdio: ['ignore', 'ignore', 'inherit'] })
    onTestFinished(() => void child.kill('SIGKILL'))
    expect(await new Promise((done) => child.on('exit', (_, by) => done(by))), `killed at ${step}`).toBe('SIGKILL')
    const happened = step === 'committed' || step === 'removed'
    const there = happened ? taken.slice(3) : taken
    expect(await listed(scene)).toEqual(there.map(({ point }) => point))
    await expectVerifies(scene)
    for (const each of there) await expectRestores(scene, each)
    // A backup tidies up, too.
    const content = changed(taken[4]?.content ?? Buffer.alloc(0), 7)
    writeFileSync(scene.path('root.img'), content)
    await scene.ok(['backup', '--incremental'])
    expect(archives(scene)).toHaveLength(there.length + 1)
    await scene.ok(['prune'])
    const newest = (await listed(scene)).at(-1) ?? 0
    await expectJust(scene, [...taken.slice(4), { point: newest, content }])
  })
})

function atStep(scene: Scene, step: string, signal: string): string[] {
  return [join(import.meta.dirname, 'prune-at-step.mjs'), scene.path('refpoint.yaml'), 'web01', step, signal]
}

it.skipIf(process.getuid?.() !== 0)('prune changes nothing where the target is full (needs root)', async () => {
  const scene = openScene(withRules('{ last: 1 }').replace('./repository', './target/repository'), { within: true })
  const target = scene.path('target')
  mkdirSync(target)
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=32m', 'none', target])
  onTestFinished(() => void execFileSync('umount', ['--lazy', target]))
  await scene.ok(['init'])
  const taken: Taken[] = []
  for (const point of [1, 2, 3, 4]) {
    const content = taken.length === 0 ? randomBytes(2 * 1024 * 1024) : Buffer.from(taken.at(-1)?.content ?? '')
    if (point > 1) randomBytes(512 * 1024).copy(content, point * 256 * 1024)
    writeFileSync(scene.path('root.img'), content)
    await scene.ok(['backup'])
    taken.push({ point, content })
  }
  const folder = join(target, 'repository/machines/web01')
  const state = (): readonly string[] => filesBelow(folder).filter((name) => !/^(locks|runs)/.test(name))
  const before = state()
  const { blocks, bfree, bsize } = statfsSync(target)
  execFileSync('mount', ['-o', `remount,size=${(blocks - bfree) * bsize + 128 * 1024}`, target])
  expectTold(await scene.run(['prune']), 1, /ENOSPC/)
  expect(state()).toEqual(before)
  for (const each of taken) await expectRestores(scene, each)
  execFileSync('mount', ['-o', 'remount,size=32m', target])
  await scene.ok(['prune'])
  expect(await listed(scene)).toEqual([4])
  await expectRestores(scene, taken[3] ?? { point: 4, content: Buffer.alloc(0) })
})

describeWith(['python3', 'zstd'], 'what prune leaves', () => {
  it('restores without refpoint', async () => {
    const scene = openScene(withRules('{ last: 3 }'), { within: true })
    const taken = await takeChain(scene, 7)
    await scene.ok(['hold', 'web01', '3', '--why', 'a test'])
    await scene.ok(['prune'])
    for (const { point, content } of [taken[2], ...taken.slice(4)].flatMap((each) => each ?? [])) {
      expectSame(await restoreWithoutRefpoint(scene.repository, 'root', point), content, `point #${point}`)
    }
  })
})
