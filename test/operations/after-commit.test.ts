import { createHash } from 'node:crypto'
import { readlinkSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { buildEnvironment } from '../../src/compose.js'
import { RefpointError } from '../../src/model/errors.js'
import { backupMachine, type BackupReport } from '../../src/operations/backup/backup.js'
import type { BackupEvent } from '../../src/operations/backup/events.js'
import type { WriteEnvironment } from '../../src/operations/environment.js'
import { initRepository } from '../../src/repository/init.js'
import { localRepository } from '../../src/repository/local/local-repository.js'
import { readManifests } from '../../src/repository/manifests.js'
import type { PruneRepository } from '../../src/repository/repository.js'
import { createImageTracker } from '../../src/trackers/image/image-tracker.js'
import type { Tracker } from '../../src/trackers/tracker.js'
import { temporaryFolder } from '../temporary.js'

interface Breaking {
  readonly release?: Error
  readonly dispose?: Error
  readonly freeLease?: Error
  readonly assertStable?: Error
}

/** The same tracker, whose ends fail after they were made. */
function breaking(tracker: Tracker, { release, dispose, assertStable }: Breaking): Tracker {
  return {
    capabilities: tracker.capabilities,
    stores: () => tracker.stores(),
    async checkpoint(options) {
      const taken = await tracker.checkpoint(options)
      return {
        time: taken.time,
        consistency: taken.consistency,
        stores: taken.stores,
        files: taken.files,
        warnings: taken.warnings,
        async assertStable() {
          if (assertStable !== undefined) throw assertStable
          await taken.assertStable()
        },
        async [Symbol.asyncDispose]() {
          await taken[Symbol.asyncDispose]()
          if (dispose !== undefined) throw dispose
        },
      }
    },
    async release(point, owner) {
      if (release !== undefined) throw release
      await tracker.release(point, owner)
    },
    [Symbol.asyncDispose]: () => tracker[Symbol.asyncDispose](),
  }
}

class Bench {
  readonly folder = temporaryFolder()
  readonly image = join(this.folder, 'root.img')
  readonly repository: PruneRepository = localRepository(join(this.folder, 'repository'), { create: true })
  readonly warnings: string[] = []

  static async create(bytes: number): Promise<Bench> {
    const bench = new Bench()
    await initRepository(bench.repository)
    writeFileSync(bench.image, Buffer.alloc(bytes, createHash('sha512').update('content').digest()))
    return bench
  }

  async backup(environment: WriteEnvironment, broken: Breaking = {}): Promise<BackupReport> {
    const tracker = breaking(createImageTracker({ stores: { root: { path: this.image } }, allowTorn: false }), broken)
    const machine = {
      name: 'web01',
      trackerName: 'image',
      tracker,
      files: {},
      level: 1,
      concurrentStores: 1,
      audit: { bytes: 0, milliseconds: 0 },
    }
    const onEvent = (event: BackupEvent): void => {
      if (event.type === 'warning') this.warnings.push(event.message)
    }
    const { signal } = new AbortController()
    try {
      return await backupMachine(environment, machine, { request: 'auto', signal, onEvent })
    } finally {
      await tracker[Symbol.asyncDispose]()
    }
  }
}

function environmentOf(repository: PruneRepository, workers = 1): Promise<WriteEnvironment> {
  return buildEnvironment(repository, { workers, memoryBytes: 64 << 20, command: 'a test' })
}

it.each([
  ['release', /letting the tracker forget the point before failed: it is gone/],
  ['dispose', /disposing of the checkpoint failed: it is gone/],
  ['freeLease', /giving back the lease failed: it is gone/],
] as const)('tells that a point was committed where %s fails after it', async (what, told) => {
  const bench = await Bench.create(300_000)
  const gone = new RefpointError('io', 'it is gone')
  const { repository } = bench
  const failing: PruneRepository = {
    description: repository.description,
    read: (name, limit) => repository.read(name, limit),
    locate: (name) => repository.locate(name),
    stat: (name) => repository.stat(name),
    list: (prefix) => repository.list(prefix),
    children: (prefix) => repository.children(prefix),
    room: () => repository.room(),
    put: (name, content, options) => repository.put(name, content, options),
    async claim(name, bytes) {
      if (name.includes('/free-')) throw gone
      return await repository.claim(name, bytes)
    },
    sweep: (prefix) => repository.sweep(prefix),
    remove: (names) => repository.remove(names),
  }
  await using pool = (await environmentOf(what === 'freeLease' ? failing : repository)).pool
  const environment = { ...(await environmentOf(what === 'freeLease' ? failing : repository)), pool }
  const report = await bench.backup(environment, { [what]: gone })
  expect(report.manifest.point).toBe(1)
  expect(report.unfinished).toEqual([expect.stringMatching(told)])
  expect(report.unfinished[0]).toMatch(/^point #1 is committed, but /)
  expect(bench.warnings).toEqual(report.unfinished)
  const { points, problems } = await readManifests(repository, 'web01')
  expect(points.map(({ point }) => point)).toEqual([1])
  expect(problems).toEqual([])
})

it('tells what made a run fail, and not what failed in ending it', async () => {
  const bench = await Bench.create(300_000)
  const environment = await environmentOf(bench.repository)
  await using _ = environment.pool
  const first = new RefpointError('tracker', 'the image was written')
  const broken = { assertStable: first, dispose: new Error('nor could it be disposed of') }
  await expect(bench.backup(environment, broken)).rejects.toBe(first)
  expect(bench.warnings).toEqual(['disposing of the checkpoint failed: nor could it be disposed of'])
  expect((await bench.backup(environment)).manifest.point).toBe(1)
})

/** How often this process, all its threads included, has a file open. */
function timesOpen(path: string): number {
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === path
    } catch {
      return false
    }
  }).length
}

it('closes the disks in every worker when the machine is done, and not only when the command is', async () => {
  const bench = await Bench.create(48 << 20)
  const environment = await environmentOf(bench.repository, 3)
  await using _ = environment.pool
  expect(timesOpen(bench.image)).toBe(0)
  let most = 0
  const { pool } = environment
  const watched: WriteEnvironment = {
    ...environment,
    pool: {
      workers: pool.workers,
      async run(name, jobs, bytes) {
        const results = await pool.run(name, jobs, bytes)
        most = Math.max(most, timesOpen(bench.image))
        return results
      },
      everywhere: (name, job) => pool.everywhere(name, job),
      [Symbol.asyncDispose]: () => pool[Symbol.asyncDispose](),
    },
  }
  await bench.backup(watched)
  expect(most).toBeGreaterThan(2)
  expect(timesOpen(bench.image)).toBe(0)
  // Two machines that end at one time do not keep each other waiting.
  await Promise.all(Array.from({ length: 4 }, () => pool.everywhere('closeSources', ['nobody'])))
})
