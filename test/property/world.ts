import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { buildEnvironment } from '../../src/compose.js'
import { backupMachine } from '../../src/operations/backup/backup.js'
import { holdPoint } from '../../src/operations/prune/hold.js'
import { pruneMachine, type PruneReport } from '../../src/operations/prune/prune.js'
import type { KeepRules } from '../../src/model/retention.js'
import type { WriteEnvironment } from '../../src/operations/environment.js'
import { connectNbd, type NbdClient } from '../../src/nbd/client.js'
import { ChangeIdExpired } from '../../src/model/errors.js'
import type { PointManifest } from '../../src/model/manifest.js'
import type { BackupRequest } from '../../src/model/planner.js'
import { initRepository } from '../../src/repository/init.js'
import { localRepository } from '../../src/repository/local/local-repository.js'
import { createDisk } from '../../src/trackers/disk/create-disk.js'
import { accessDisks } from '../../src/trackers/disk/disk-access.js'
import { createDiskTracker } from '../../src/trackers/disk/disk-tracker.js'
import { type DiskServer, serveDisks } from '../../src/trackers/disk/serve-disks.js'
import type { Checkpoint, CheckpointStore, Tracker } from '../../src/trackers/tracker.js'

/** Two disks of one machine, what they must contain, and what they contained at each point. */
export class World {
  readonly folder: string
  readonly names = ['root', 'data'] as const
  readonly model: Record<string, Buffer> = {}
  /** Point to each disk's content at its instant. */
  readonly points = new Map<number, Record<string, Buffer>>()
  readonly manifests: PointManifest[] = []
  environment: WriteEnvironment
  /** What each named checkpoint froze. */
  readonly checkpoints = new Map<string, Record<string, Buffer>>()
  #server: DiskServer | undefined
  #clients: Record<string, NbdClient> = {}

  private constructor(folder: string, environment: WriteEnvironment) {
    this.folder = folder
    this.environment = environment
  }

  static async create(folder: string, sizes: { root: number; data: number }, blockBytes: number): Promise<World> {
    const repository = localRepository(join(folder, 'repository'), { create: true })
    await initRepository(repository)
    const environment = await buildEnvironment(repository, { workers: 1, memoryBytes: 8 << 20, command: 'a test' })
    const world = new World(folder, environment)
    mkdirSync(join(folder, 'disks'))
    for (const name of world.names) {
      await createDisk(world.disk(name), { sizeBytes: sizes[name], blockBytes })
      world.model[name] = Buffer.alloc(sizes[name])
    }
    await world.serve()
    return world
  }

  disk(name: string): string {
    return join(this.folder, 'disks', name)
  }

  content(name: string): Buffer {
    const content = this.model[name]
    if (content === undefined) throw new RangeError(`no disk ${name}`)
    return content
  }

  async serve(): Promise<void> {
    const path = join(this.folder, 'nbd.sock')
    this.#server = await serveDisks({ folders: this.names.map((name) => this.disk(name)), listen: { path } })
    for (const name of this.names) this.#clients[name] = await connectNbd({ path }, { exportName: name })
  }

  async stop(): Promise<void> {
    for (const client of Object.values(this.#clients)) await client[Symbol.asyncDispose]()
    this.#clients = {}
    await this.#server?.close()
    this.#server = undefined
  }

  async disconnect(): Promise<void> {
    for (const client of Object.values(this.#clients)) await client[Symbol.asyncDispose]()
    this.#clients = {}
  }

  get serving(): boolean {
    return this.#server !== undefined
  }

  client(name: string): NbdClient {
    const client = this.#clients[name]
    if (client === undefined) throw new RangeError(`${name} is not served`)
    return client
  }

  snapshot(): Record<string, Buffer> {
    return Object.fromEntries(this.names.map((name) => [name, Buffer.from(this.content(name))]))
  }

  access(names: readonly string[]): ReturnType<typeof accessDisks> {
    return accessDisks(names.map((name) => this.disk(name)))
  }

  /** Takes a point; `during` runs between checkpoint and reading: what it writes must not be in the point. */
  async backup(options: {
    readonly request: BackupRequest
    readonly loseTrack?: boolean
    readonly clockStepMs?: number
    readonly failAfterStreaming?: boolean
    readonly during?: () => Promise<void>
  }): Promise<PointManifest | undefined> {
    let instant: Record<string, Buffer> | undefined
    const tracker = wrap(
      createDiskTracker({ stores: Object.fromEntries(this.names.map((name) => [name, this.disk(name)])) }),
      {
        loseTrack: options.loseTrack ?? false,
        clockStepMs: options.clockStepMs ?? 0,
        onCheckpoint: async () => {
          instant = this.snapshot()
          await options.during?.()
        },
        fail: options.failAfterStreaming ?? false,
      },
    )
    const { manifest } = await backupMachine(
      this.environment,
      {
        name: 'machine',
        trackerName: 'disk',
        tracker,
        files: {},
        level: 1,
        concurrentStores: 2,
        audit: { bytes: 1 << 20, milliseconds: 1000 },
      },
      { request: options.request, signal: new AbortController().signal },
    )
    if (instant === undefined) throw new Error('no checkpoint was taken')
    this.points.set(manifest.point, instant)
    this.manifests.push(manifest)
    return manifest
  }

  /** Lets go of points; what is dropped is nothing that must restore any more. */
  async prune(rules: KeepRules, archiveCostBytes: number): Promise<PruneReport> {
    const request = { machine: 'machine', rules, zone: 'UTC', level: 1, archiveCostBytes }
    const report = await pruneMachine(this.environment, request, { signal: new AbortController().signal })
    for (const point of report.plan.dropped) this.points.delete(point)
    return report
  }

  async hold(point: number): Promise<void> {
    const signal = new AbortController().signal
    await holdPoint(this.environment, 'machine', { when: { kind: 'point', point }, why: 'a test' }, signal)
  }

  async close(): Promise<void> {
    await this.stop()
    await this.environment.pool[Symbol.asyncDispose]()
  }
}

interface Wrapping {
  readonly loseTrack: boolean
  readonly clockStepMs: number
  readonly onCheckpoint: () => Promise<void>
  readonly fail: boolean
}

/** A tracker in whose way things are put: the same tracker, with a bad day. */
function wrap(tracker: Tracker, { loseTrack, clockStepMs, onCheckpoint, fail }: Wrapping): Tracker {
  const wrapStore = (store: CheckpointStore): CheckpointStore => ({
    name: store.name,
    sizeBytes: store.sizeBytes,
    logicalBlockBytes: store.logicalBlockBytes,
    changeId: store.changeId,
    source: store.source,
    changedExtents: async (since, options) => {
      if (loseTrack) throw new ChangeIdExpired('unknown', 'the test took it away')
      return await store.changedExtents(since, options)
    },
    allocatedExtents: (range, options) => store.allocatedExtents(range, options),
  })
  return {
    capabilities: tracker.capabilities,
    stores: () => tracker.stores(),
    async checkpoint(options): Promise<Checkpoint> {
      const taken = await tracker.checkpoint(options)
      await onCheckpoint()
      return {
        time: new Date(taken.time.getTime() + clockStepMs),
        consistency: taken.consistency,
        stores: taken.stores.map(wrapStore),
        warnings: taken.warnings,
        files: taken.files,
        async assertStable() {
          await taken.assertStable()
          if (fail) throw new Error('the run was made to fail')
        },
        [Symbol.asyncDispose]: () => taken[Symbol.asyncDispose](),
      }
    },
    release: (point, owner) => tracker.release(point, owner),
    [Symbol.asyncDispose]: () => tracker[Symbol.asyncDispose](),
  }
}
