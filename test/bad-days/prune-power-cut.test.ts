import { readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { buildEnvironment } from '../../src/compose.js'
import { listPoints } from '../../src/operations/points.js'
import { pruneMachine } from '../../src/operations/prune/prune.js'
import { restorePoint } from '../../src/operations/restore/restore.js'
import { verify } from '../../src/operations/verify/verify.js'
import { localRepository } from '../../src/repository/local/local-repository.js'
import { crashStates, materialise } from '../crash-states.js'
import { recordFiles } from '../recording-files.js'
import { temporaryFolder } from '../temporary.js'
import { runSeed } from '../trackers/disk/random.js'
import { changed, contentOf, expectSame, forgetHolders, openScene } from './scene.js'

const seed = runSeed()
const states = process.env['REFPOINT_LONG'] === '1' ? 600 : 40
const signal = new AbortController().signal
const bytes = 192 * 1024 + 512

const config = `
repository: ./repository
machines:
  web01:
    tracker: image
    stores: { root: ./root.img }
`

it(`a power cut at any moment of a prune leaves the history before it or after it (seed ${seed})`, async () => {
  const scene = openScene(config, { within: true })
  await scene.ok(['init'])
  const contents = new Map<number, Buffer>()
  let content = contentOf(1, bytes)
  for (const point of [1, 2, 3, 4, 5]) {
    if (point > 1) content = changed(content, point, 5)
    writeFileSync(scene.path('root.img'), content)
    await scene.ok(['backup'])
    contents.set(point, content)
  }
  const recording = recordFiles(scene.repository)
  let committed = Infinity
  const settings = { workers: 1, memoryBytes: 8 << 20, command: 'a test' }
  const recorded = await buildEnvironment(localRepository(scene.repository, { files: recording.files }), settings)
  const request = { machine: 'web01', rules: { last: 2 }, zone: 'UTC', level: 1 }
  await pruneMachine(recorded, request, {
    signal,
    onEvent: (event) => {
      if (event.type === 'step' && event.step === 'committed') committed = recording.now()
    },
  })
  await recorded.pool[Symbol.asyncDispose]()

  const found = { before: 0, after: 0 }
  for (const state of crashStates(recording, { seed, random: 1, limit: states })) {
    const folder = temporaryFolder()
    materialise(recording, state, folder)
    const about = `${JSON.stringify(state)}, seed ${seed}`
    const environment = await buildEnvironment(localRepository(folder), settings)
    try {
      const [history] = await listPoints(environment.repository, 'web01')
      const points = history?.points.map(({ point }) => point) ?? []
      expect(history?.problems, about).toEqual([])
      const after = points.length === 2
      found[after ? 'after' : 'before'] += 1
      expect(points, about).toEqual(after ? [4, 5] : [1, 2, 3, 4, 5])
      if (state.cut >= committed) expect(after, about).toBe(true)
      for (const point of history?.points ?? []) {
        const to = { folder: join(folder, '..', `${folder.split('/').at(-1)}-out`) }
        const restore = { point, points: history?.points ?? [], stores: undefined, to, force: false, concurrentStores: 1 }
        await restorePoint(environment, { ...restore, format: 'raw' }, { signal })
        const expected = contents.get(point.point) ?? Buffer.alloc(0)
        expectSame(readFileSync(join(to.folder, 'root.raw')), expected, `point #${point.point}, ${about}`)
        rmSync(to.folder, { recursive: true })
      }
      // The next prune takes over from one that nobody answers for any more, and nothing is left over after it.
      forgetHolders(folder)
      await pruneMachine(environment, request, { signal })
      expect(readdirSync(join(folder, 'machines/web01/archives')), about).toHaveLength(2)
      const report = await verify(environment, { machine: 'web01', point: undefined, quick: false }, { signal })
      expect(report.findings, about).toEqual([])
      expect(report.points, about).toBe(2)
    } finally {
      await environment.pool[Symbol.asyncDispose]()
    }
  }
  expect(found.before).toBeGreaterThan(0)
  expect(found.after).toBeGreaterThan(0)
})
