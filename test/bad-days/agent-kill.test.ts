import { spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { describeWith } from '../layers.js'
import { Random, runSeed } from '../trackers/disk/random.js'
import { expectSame, expectVerifies, makeFolder, openScene, restoreWithoutRefpoint, type Scene } from './scene.js'
import { WriteLoad } from './write-load.js'

const steps = ['locked', 'cleaned', 'checkpointed', 'planned', 'streamed', 'archived', 'committed', 'released', 'disposed']
const randomKills = process.env['REFPOINT_LONG'] === '1' ? 200 : 20
const stores = ['root', 'data'] as const
const diskBytes = 4 * 1024 * 1024
const seed = runSeed()

const twoDisks = `
repository: ./repository
machines:
  web01:
    tracker: disk
    stores: { root: ./disks/root, data: ./disks/data }
`

/** A machine of two disks, served by a process of its own, written to by a client that is none of ours. */
async function openMachine(): Promise<{ scene: Scene; load: WriteLoad }> {
  const scene = openScene(twoDisks, { within: true })
  makeFolder(scene.path('disks'))
  await scene.ok(['init'])
  for (const store of stores) await scene.ok(['disk', 'create', scene.path('disks', store), '--size', String(diskBytes)])
  const socket = scene.path('nbd.sock')
  scene.start(['disk', 'serve', 'disks/root', 'disks/data', '--socket', socket])
  while (!existsSync(socket)) await new Promise((resolve) => setTimeout(resolve, 5))
  const uris = stores.map((store) => `nbd+unix:///${store}?socket=${socket}`)
  return { scene, load: await WriteLoad.start(seed, diskBytes / 4096, uris) }
}

async function killedAt(scene: Scene, step: string): Promise<void> {
  const script = join(import.meta.dirname, 'kill-at-step.mjs')
  const args = [script, scene.path('refpoint.yaml'), 'web01', step]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'inherit'] })
  onTestFinished(() => void child.kill('SIGKILL'))
  const signal = await new Promise((done) => child.on('exit', (_, by) => done(by)))
  expect(signal, `killed at ${step}`).toBe('SIGKILL')
}

async function killedAfter(scene: Scene, milliseconds: number): Promise<void> {
  const running = scene.start(['backup'])
  const timer = setTimeout(() => running.process.kill('SIGKILL'), milliseconds)
  const { status, stderr } = await running.told
  clearTimeout(timer)
  // Killed, or done before that.
  expect([-1, 0], stderr).toContain(status)
}

async function pointsOf(scene: Scene): Promise<number[]> {
  const { stdout } = await scene.ok(['points', 'web01', '--json'])
  return [...stdout.matchAll(/"point":\s*(\d+)/g)].map(([, number]) => Number(number)).sort((a, b) => a - b)
}

async function restored(scene: Scene, point: number): Promise<Buffer[]> {
  const folder = scene.path(`point-${point}`)
  await scene.ok(['restore', 'web01', '--at', String(point), '--to', folder])
  return stores.map((store) => readFileSync(join(folder, `${store}.raw`)))
}

class Rounds {
  readonly #scene: Scene
  readonly #load: WriteLoad
  readonly #known = new Set<number>()
  #round = 0
  #written = 0

  constructor(scene: Scene, load: WriteLoad) {
    this.#scene = scene
    this.#load = load
  }

  /**
   * Kills an agent while the disks are written to; then nothing is wrong, and nothing is missing. Resolves to the number
   * of points that the killed run had committed.
   */
  async kill(what: string, kill: () => Promise<void>): Promise<number> {
    const scene = this.#scene
    this.#round += 1
    this.#load.go()
    await kill()
    const written = await this.#load.pause()
    const about = `${what}, round ${this.#round}, seed ${seed}`
    await expectVerifies(scene)

    // Longer chains prove no more, and take longer.
    await scene.ok(this.#round % 6 === 1 ? ['backup', '--full'] : ['backup', '--incremental'])
    const fresh = (await pointsOf(scene)).filter((point) => !this.#known.has(point))
    const newest = fresh.at(-1) ?? 0
    const paths = stores.map((store) => scene.path(`read-${store}`))
    await this.#load.read(paths)
    const disks = paths.map((path) => readFileSync(path))
    expect(this.#load.expectInstant(disks, `${about}: the disks`)).toBe(written)
    const found = await restored(scene, newest)
    for (const [index, store] of stores.entries()) {
      const disk = disks[index] ?? Buffer.alloc(0)
      expectSame(found[index] ?? Buffer.alloc(0), disk, `${about}: ${store} of #${newest}`)
      expectSame(await restoreWithoutRefpoint(scene.repository, store, newest), disk, `${about}: ${store} of #${newest} without refpoint`)
    }
    // A point that the killed run committed is one instant of both disks, in the midst of the writes.
    for (const point of fresh.slice(0, -1)) this.#load.expectInstant(await restored(scene, point), `${about}: #${point}`)
    for (const point of fresh) this.#known.add(point)
    expect(written, 'writes while the agent ran').toBeGreaterThan(this.#written)
    this.#written = written
    return fresh.length - 1
  }
}

describeWith(['libnbd'], `kill -9 of the agent while its disks are written to (seed ${seed})`, () => {
  it('at every step of a run', async () => {
    const { scene, load } = await openMachine()
    const rounds = new Rounds(scene, load)
    for (const [index, step] of steps.entries()) {
      const committed = await rounds.kill(`killed at ${step}`, () => killedAt(scene, step))
      expect(committed, step).toBe(index >= steps.indexOf('committed') ? 1 : 0)
    }
  }, 600_000)

  it(`${randomKills} times at random`, async () => {
    const { scene, load } = await openMachine()
    const rounds = new Rounds(scene, load)
    const random = new Random(seed)
    const started = Date.now()
    await killedAfter(scene, 60_000)
    const usual = Date.now() - started
    for (let round = 0; round < randomKills; round += 1) {
      const after = Math.floor(usual * (0.2 + random.below(1000) / 1000))
      await rounds.kill(`killed after ${after} ms`, () => killedAfter(scene, after))
    }
  }, 3_600_000)
})
