import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { backupMachine, type BackupReport } from '../../src/operations/backup/backup.js'
import { restorePoint } from '../../src/operations/restore/restore.js'
import type { Range } from '../../src/model/extent.js'
import { readManifests } from '../../src/repository/manifests.js'
import { createDiskTracker } from '../../src/trackers/disk/disk-tracker.js'
import type { Tracker } from '../../src/trackers/tracker.js'
import { World } from '../property/world.js'
import { temporaryFolder } from '../temporary.js'

const MiB = 1_048_576
const signal = new AbortController().signal

/** The disk tracker, but nothing that it says about `store` is to be believed: it says that nothing changed. */
function lying(tracker: Tracker, store: string): Tracker {
  async function* nothing(): AsyncGenerator<readonly Range[]> {}
  return {
    ...tracker,
    async checkpoint(options) {
      const taken = await tracker.checkpoint(options)
      return {
        ...taken,
        time: taken.time,
        consistency: taken.consistency,
        warnings: taken.warnings,
        files: taken.files,
        assertStable: () => taken.assertStable(),
        [Symbol.asyncDispose]: () => taken[Symbol.asyncDispose](),
        stores: taken.stores.map((frozen) => ({
          name: frozen.name,
          sizeBytes: frozen.sizeBytes,
          logicalBlockBytes: frozen.logicalBlockBytes,
          changeId: frozen.changeId,
          source: frozen.source,
          allocatedExtents: (range, how) => frozen.allocatedExtents(range, how),
          changedExtents: async (since, how) => {
            const told = await frozen.changedExtents(since, how)
            return frozen.name === store ? nothing() : told
          },
        })),
      }
    },
  }
}

async function backup(
  world: World,
  budget: { bytes: number; milliseconds: number },
  liar?: string,
): Promise<BackupReport> {
  const stores = Object.fromEntries(world.names.map((name) => [name, world.disk(name)]))
  const tracker = createDiskTracker({ stores })
  return await backupMachine(
    world.environment,
    {
      name: 'machine',
      trackerName: 'disk',
      tracker: liar === undefined ? tracker : lying(tracker, liar),
      files: {},
      level: 1,
      concurrentStores: 2,
      audit: budget,
    },
    { request: 'auto', signal },
  )
}

async function twoDisks(): Promise<World> {
  const world = await World.create(temporaryFolder(), { root: 8 * MiB, data: 4 * MiB }, 16_384)
  for (const name of world.names) {
    const content = world.content(name)
    for (let at = 0; at < content.length; at += 4) content.writeUInt32LE((at * 2654435761) % 2 ** 32, at)
    await world.client(name).write([content], 0)
  }
  return world
}

const plenty = { bytes: 64 * MiB, milliseconds: 60_000 }

it('catches a tracker that misses a change, compares instead, and tells it loudly', async () => {
  const world = await twoDisks()
  try {
    await backup(world, plenty)
    const bytes = Buffer.alloc(4096, 7)
    await world.client('root').write([bytes], 3 * MiB)
    bytes.copy(world.content('root'), 3 * MiB)
    const { manifest, distrusted } = await backup(world, plenty, 'root')
    expect(distrusted).toEqual([
      expect.stringMatching(/store 'root' called 1 of \d+ audited blocks unchanged .*byte 3145728/),
    ])
    expect(manifest.warnings).toEqual(distrusted)
    expect(manifest.stores).toMatchObject([
      { name: 'root', mode: 'compared', dataExtents: 1 },
      { name: 'data', mode: 'tracked' },
    ])
    const { points } = await readManifests(world.environment.repository, 'machine')
    const folder = join(world.folder, 'restored')
    const request = {
      point: manifest,
      points,
      stores: undefined,
      to: { folder },
      format: undefined,
      force: false,
      concurrentStores: 1,
    }
    await restorePoint(world.environment, request, { signal })
    expect(readFileSync(join(folder, 'root.raw')).equals(world.content('root'))).toBe(true)
  } finally {
    await world.close()
  }
})

it('goes round the store from run to run, and looks at the tail each time', async () => {
  const world = await twoDisks()
  try {
    await backup(world, plenty)
    // 2 MiB for each store, of which the tail takes one: each run gets 16 blocks further.
    const places: number[] = []
    for (let run = 0; run < 3; run++) {
      const { manifest } = await backup(world, { bytes: 4 * MiB, milliseconds: 60_000 })
      places.push(manifest.stores[0]?.auditedTo ?? -1)
    }
    expect(places).toEqual([16, 32, 48])
    const last = world.content('root').length - 512
    await world.client('root').write([Buffer.alloc(512, 1)], last)
    const { distrusted } = await backup(world, { bytes: 1, milliseconds: 60_000 }, 'root')
    expect(distrusted).toHaveLength(1)
  } finally {
    await world.close()
  }
})

it('reads nothing when its budget is zero', async () => {
  const world = await twoDisks()
  try {
    await backup(world, plenty)
    await world.client('root').write([Buffer.alloc(512, 1)], 0)
    const { distrusted, manifest } = await backup(world, { bytes: 0, milliseconds: 5000 }, 'root')
    expect(distrusted).toEqual([])
    expect(manifest.stores[0]?.mode).toBe('tracked')
  } finally {
    await world.close()
  }
})
