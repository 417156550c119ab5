import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { buildEnvironment } from '../../src/compose.js'
import { backupMachine } from '../../src/operations/backup/backup.js'
import { listPoints } from '../../src/operations/points.js'
import { restorePoint } from '../../src/operations/restore/restore.js'
import { verify } from '../../src/operations/verify/verify.js'
import { initRepository } from '../../src/repository/init.js'
import { localRepository } from '../../src/repository/local/local-repository.js'
import type { PruneRepository } from '../../src/repository/repository.js'
import { createImageTracker } from '../../src/trackers/image/image-tracker.js'
import { crashStates, materialise } from '../crash-states.js'
import { recordFiles } from '../recording-files.js'
import { temporaryFolder } from '../temporary.js'
import { runSeed } from '../trackers/disk/random.js'
import { changed, contentOf, expectSame, forgetHolders, restoreWithoutRefpoint } from './scene.js'

const seed = runSeed()
const states = process.env['REFPOINT_LONG'] === '1' ? 2000 : 150
const { signal } = new AbortController()
const bytes = 300_032

interface Agent extends AsyncDisposable {
  backup(): Promise<number>
  /** What verify finds. */
  findings(): Promise<readonly unknown[]>
  points(): Promise<readonly number[]>
  restore(point: number, folder: string): Promise<Buffer>
}

async function startAgent(repository: PruneRepository, image: string): Promise<Agent> {
  const environment = await buildEnvironment(repository, { workers: 1, memoryBytes: 8 << 20, command: 'a test' })
  const tracker = createImageTracker({ stores: { root: { path: image } }, allowTorn: false })
  const machine = {
    name: 'web01',
    trackerName: 'image',
    tracker,
    files: {},
    level: 1,
    concurrentStores: 1,
    audit: { bytes: 1 << 20, milliseconds: 100 },
  }
  const history = async () => (await listPoints(repository, 'web01'))[0]
  return {
    async backup() {
      const { manifest } = await backupMachine(environment, machine, { request: 'auto', signal })
      return manifest.point
    },
    async findings() {
      return (await verify(environment, { machine: undefined, point: undefined, quick: false }, { signal })).findings
    },
    points: async () => (await history())?.points.map(({ point }) => point) ?? [],
    async restore(number, folder) {
      const points = (await history())?.points ?? []
      const point = points.find((candidate) => candidate.point === number)
      if (point === undefined) throw new RangeError(`no point ${number}`)
      const request = {
        point,
        points,
        stores: undefined,
        to: { folder },
        format: undefined,
        force: false,
        concurrentStores: 1,
      }
      await restorePoint(environment, request, { signal })
      const content = readFileSync(join(folder, 'root.raw'))
      rmSync(folder, { recursive: true })
      return content
    },
    async [Symbol.asyncDispose]() {
      await tracker[Symbol.asyncDispose]()
      await environment.pool[Symbol.asyncDispose]()
    },
  }
}

it(`a power cut at any moment of backups costs no committed point, and the next run goes on (seed ${seed})`, async () => {
  const folder = temporaryFolder()
  const image = join(folder, 'root.img')
  const repository = join(folder, 'repository')
  mkdirSync(repository)
  await initRepository(localRepository(repository))
  const recording = recordFiles(repository)
  const committed: { point: number; moment: number; content: Buffer }[] = []
  let content = contentOf(1, bytes)
  {
    await using agent = await startAgent(localRepository(repository, { files: recording.files }), image)
    for (const number of [1, 2, 3]) {
      if (number > 1) content = changed(content, number)
      writeFileSync(image, content)
      const point = await agent.backup()
      committed.push({ point, moment: recording.now(), content })
    }
  }
  const next = changed(content, 99)
  writeFileSync(image, next)

  const seen = new Set<number>()
  for (const state of crashStates(recording, { seed, random: 2, limit: states })) {
    const about = `${JSON.stringify(state)}, seed ${seed}`
    const into = temporaryFolder()
    materialise(recording, state, into)
    forgetHolders(into)
    await using agent = await startAgent(localRepository(into), image)
    const promised = committed.filter(({ moment }) => moment <= state.cut)
    const there = existsSync(join(into, 'machines/web01/machine.json')) ? await agent.points() : []
    expect(there, about).toEqual(expect.arrayContaining(promised.map(({ point }) => point)))
    expect(await agent.findings(), about).toEqual([])

    const taken = await agent.backup()
    expect(await agent.findings(), about).toEqual([])
    const restored = join(into, '..', `${into.split('/').at(-1)}-restored`)
    for (const point of there) {
      const expected = committed.find((entry) => entry.point === point)?.content ?? Buffer.alloc(0)
      expectSame(await agent.restore(point, restored), expected, `#${point}: ${about}`)
    }
    expectSame(await agent.restore(taken, restored), next, `the next run's #${taken}: ${about}`)
    if (seen.size < 4 && !seen.has(there.length)) {
      expectSame(await restoreWithoutRefpoint(into, 'root', taken), next, `without refpoint: ${about}`)
    }
    seen.add(there.length)
    rmSync(into, { recursive: true })
  }
  expect([...seen].sort()).toEqual([0, 1, 2, 3])
}, 3_600_000)
