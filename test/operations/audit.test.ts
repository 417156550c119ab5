import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { auditMachine, type AuditReport } from '../../src/operations/audit/audit-machine.js'
import { type BackupMachine, backupMachine, type BackupReport } from '../../src/operations/backup/backup.js'
import { pruneMachine } from '../../src/operations/prune/prune.js'
import { restorePoint } from '../../src/operations/restore/restore.js'
import { acquireLease } from '../../src/repository/lease.js'
import { readManifests } from '../../src/repository/manifests.js'
import { createDiskTracker } from '../../src/trackers/disk/disk-tracker.js'
import { World } from '../property/world.js'
import { temporaryFolder } from '../temporary.js'
import { type Lie, lying } from './liar.js'

const MiB = 1_048_576
const { signal } = new AbortController()

interface Budget {
  readonly bytes: number
  readonly milliseconds: number
}

const plenty: Budget = { bytes: 64 * MiB, milliseconds: 60_000 }
const off: Budget = { bytes: 0, milliseconds: 5000 }
const nothing: Lie = { changed: [] }

/** A machine with two tracked disks full of content, and one point of it. */
async function machineWithAPoint(): Promise<World> {
  const world = await World.create(temporaryFolder(), { root: 8 * MiB, data: 4 * MiB }, 16_384)
  onTestFinished(() => world.close())
  for (const name of world.names) {
    const content = world.content(name)
    for (let at = 0; at < content.length; at += 4) content.writeUInt32LE((at * 2654435761) % 2 ** 32, at)
    await world.client(name).write([content], 0)
  }
  await backup(world, plenty)
  return world
}

function machineOf(world: World, audit: Budget, lies: Readonly<Record<string, Lie>>): BackupMachine {
  const stores = Object.fromEntries(world.names.map((name) => [name, world.disk(name)]))
  const tracker = lying(createDiskTracker({ stores }), lies)
  return { name: 'machine', trackerName: 'disk', tracker, files: {}, level: 1, concurrentStores: 2, audit }
}

async function backup(world: World, budget: Budget, lies: Readonly<Record<string, Lie>> = {}): Promise<BackupReport> {
  return await backupMachine(world.environment, machineOf(world, budget, lies), { request: 'auto', signal })
}

async function audit(
  world: World,
  { whole }: { whole: boolean },
  { lies = {}, budget = plenty }: { lies?: Readonly<Record<string, Lie>>; budget?: Budget } = {},
): Promise<AuditReport> {
  return await auditMachine(world.environment, machineOf(world, budget, lies), { whole, signal })
}

async function write(world: World, name: string, offset: number, bytes: Buffer): Promise<void> {
  await world.client(name).write([bytes], offset)
  bytes.copy(world.content(name), offset)
}

async function expectRestoresTruth(world: World, point: number): Promise<void> {
  const { points } = await readManifests(world.environment.repository, 'machine')
  const manifest = points.find((candidate) => candidate.point === point)
  if (manifest === undefined) throw new Error(`no point #${point}`)
  const folder = join(temporaryFolder(), 'restored')
  const to = { folder }
  const request = { point: manifest, points, stores: undefined, to, format: undefined, force: false, concurrentStores: 1 }
  await restorePoint(world.environment, request, { signal })
  for (const name of world.names) {
    expect(readFileSync(join(folder, `${name}.raw`)).equals(world.content(name)), name).toBe(true)
  }
}

const modes = ({ manifest }: BackupReport): string[] => manifest.stores.map(({ name, mode }) => `${name} ${mode}`)

it('catches a tracker that misses changes, compares instead, and says which blocks', async () => {
  const world = await machineWithAPoint()
  await write(world, 'root', 3 * MiB, Buffer.alloc(2 * 65_536, 7))
  await write(world, 'root', 5 * MiB, Buffer.alloc(512, 7))
  // Enough for the tail and one job: what is told is what comparing found, not only what the sample hit.
  const budget = { bytes: 10 * MiB, milliseconds: 60_000 }
  const report = await backup(world, budget, { root: nothing })
  const what = 'called 3 blocks of 64 KiB unchanged that are not: bytes 3145728 to 3276800, 5242880 to 5308416'
  expect(report.distrusted).toEqual([expect.stringContaining(`the tracker of store 'root' ${what}`)])
  expect(report.manifest.warnings).toEqual(report.distrusted)
  expect(report.judged).toEqual([
    {
      store: 'root',
      missedBlocks: 3,
      ranges: [
        { offset: 3 * MiB, length: 131_072 },
        { offset: 5 * MiB, length: 65_536 },
      ],
    },
  ])
  expect(modes(report)).toEqual(['root compared', 'data tracked'])
  expect(report.manifest.stores.map(({ distrust }) => distrust)).toEqual([{ since: 2, what }, null])
  await expectRestoresTruth(world, 2)
})

it('does not trust a tracker again until it has named every change of a whole store', async () => {
  const world = await machineWithAPoint()
  await write(world, 'root', 3 * MiB, Buffer.alloc(512, 1))
  await backup(world, plenty, { root: nothing })

  await write(world, 'root', 2 * MiB, Buffer.alloc(512, 2))
  // No budget: that a distrusted tracker is compared does not depend on audits, and what it misses is found anyway.
  const still = await backup(world, off, { root: nothing })
  expect(modes(still)).toEqual(['root compared', 'data tracked'])
  expect(still.manifest.stores[0]?.reason).toMatch(/^compared with point #2: its tracker is not trusted since #2, when it called 1 block/)
  expect(still.distrusted).toHaveLength(1)
  expect(still.manifest.stores[0]?.distrust?.since).toBe(3)
  await expectRestoresTruth(world, 3)

  await write(world, 'root', MiB, Buffer.alloc(512, 3))
  const honest = await backup(world, off)
  expect(modes(honest)).toEqual(['root compared', 'data tracked'])
  expect(honest.distrusted).toEqual([])
  expect(honest.judged).toEqual([{ store: 'root', missedBlocks: 0, ranges: [] }])
  expect(honest.manifest.stores[0]?.distrust).toBeNull()

  await write(world, 'root', MiB, Buffer.alloc(512, 4))
  const trusted = await backup(world, off)
  expect(modes(trusted)).toEqual(['root tracked', 'data tracked'])
  await expectRestoresTruth(world, 5)
})

it('keeps its distrust over a full backup, which proves nothing about the tracker', async () => {
  const world = await machineWithAPoint()
  await write(world, 'root', 3 * MiB, Buffer.alloc(512, 1))
  await backup(world, plenty, { root: nothing })
  const full = await backupMachine(world.environment, machineOf(world, plenty, {}), { request: 'full', signal })
  expect(full.manifest.stores[0]?.distrust?.since).toBe(2)
  expect(modes(await backup(world, plenty))).toEqual(['root compared', 'data tracked'])
})

it('goes round the store from run to run, however small the budget', async () => {
  const world = await machineWithAPoint()
  const places: number[] = []
  for (let run = 0; run < 9; run++) {
    const { manifest } = await backup(world, { bytes: 1, milliseconds: 60_000 })
    places.push(manifest.stores[0]?.auditedTo ?? -1)
  }
  expect(places).toEqual([16, 32, 48, 64, 80, 96, 112, 0, 16])
})

it('looks at the tail each time', async () => {
  const world = await machineWithAPoint()
  await write(world, 'root', 8 * MiB - 512, Buffer.alloc(512, 1))
  const { judged } = await backup(world, { bytes: 1, milliseconds: 60_000 }, { root: nothing })
  expect(judged).toMatchObject([{ store: 'root', missedBlocks: 1 }])
})

it('takes guaranteed zeroes where the parent has data for a store that shrank and grew back', async () => {
  const world = await machineWithAPoint()
  const half = { offset: 4 * MiB, length: 4 * MiB }
  const { stores } = await audit(world, { whole: false }, { lies: { root: { changed: [], zero: half } } })
  expect(stores).toMatchObject([
    { name: 'root', missedBlocks: 64, readBytes: 4 * MiB, ranges: [half] },
    { name: 'data', missedBlocks: 0 },
  ])
})

it('reads nothing when its budget is zero', async () => {
  const world = await machineWithAPoint()
  await write(world, 'root', 0, Buffer.alloc(512, 1))
  const report = await backup(world, off, { root: nothing })
  expect(report.distrusted).toEqual([])
  expect(modes(report)).toEqual(['root tracked', 'data tracked'])
})

it('audits without a backup, leaves the tracker as it was, and lets the next backup compare', async () => {
  const world = await machineWithAPoint()
  await write(world, 'root', 3 * MiB, Buffer.alloc(512, 1))
  await write(world, 'data', MiB, Buffer.alloc(512, 1))
  const caught = await audit(world, { whole: true }, { lies: { root: nothing } })
  expect(caught.manifest).toMatchObject({ type: 'audit', point: 2, against: 1 })
  expect(caught.stores).toMatchObject([
    { name: 'root', whole: true, checkedBlocks: 128, missedBlocks: 1, distrust: { since: 2 }, trustedAgain: false },
    { name: 'data', whole: true, checkedBlocks: 64, missedBlocks: 0, distrust: null },
  ])
  const compared = await backup(world, off)
  expect(compared.manifest).toMatchObject({ point: 3, parent: 1 })
  expect(modes(compared)).toEqual(['root compared', 'data tracked'])
  await expectRestoresTruth(world, 3)
  expect(modes(await backup(world, off))).toEqual(['root tracked', 'data tracked'])
})

it('trusts again after a whole audit that finds nothing, not after a part of one', async () => {
  const world = await machineWithAPoint()
  await write(world, 'root', 3 * MiB, Buffer.alloc(512, 1))
  await backup(world, plenty, { root: nothing })
  const part = await audit(world, { whole: false }, { budget: { bytes: MiB, milliseconds: 60_000 } })
  expect(part.stores).toMatchObject([{ name: 'root', whole: false, distrust: { since: 2 } }, { name: 'data' }])
  const whole = await audit(world, { whole: true })
  expect(whole.stores).toMatchObject([{ name: 'root', whole: true, distrust: null, trustedAgain: true }, { name: 'data' }])
  expect(modes(await backup(world, off))).toEqual(['root tracked', 'data tracked'])
})

it('goes on where the last audit or backup ended', async () => {
  const world = await machineWithAPoint()
  const budget = { bytes: 4 * MiB, milliseconds: 60_000 }
  const place = async (): Promise<number | undefined> => (await audit(world, { whole: false }, { budget })).stores.map((store) => store.kind === 'audited' ? store.auditedTo : -1)[0]
  expect(await place()).toBe(16)
  expect((await backup(world, budget)).manifest.stores[0]?.auditedTo).toBe(32)
  expect(await place()).toBe(48)
})

it('never runs beside a backup', async () => {
  const world = await machineWithAPoint()
  await using lease = await acquireLease(world.environment.repository, 'machine', { command: 'another run' })
  await expect(audit(world, { whole: true })).rejects.toMatchObject({ code: 'locked' })
  await lease.release()
  await audit(world, { whole: true })
})

/** Two writes into one digest block, of which the tracker tells only the second one. */
async function lieAboutANeighbour(world: World): Promise<readonly [number, number]> {
  const [hidden, told] = [3 * MiB, 3 * MiB + 32_768] as const
  await write(world, 'root', hidden, Buffer.alloc(4096, 7))
  await write(world, 'root', told, Buffer.alloc(16_384, 8))
  return [hidden, told]
}

describe('a change that is kept to itself beside one that is told, in one digest block', () => {
  const block = { offset: 3 * MiB, length: 65_536 }
  const tellOne: Record<string, Lie> = { root: { changed: [{ offset: 3 * MiB + 32_768, length: 16_384 }] } }

  it('is caught before the block is stored in part', async () => {
    const world = await machineWithAPoint()
    await lieAboutANeighbour(world)
    const report = await backup(world, plenty, tellOne)
    expect(modes(report)).toEqual(['root compared', 'data tracked'])
    expect(report.distrusted).toEqual([expect.stringContaining('bytes 3145728 to 3211264')])
    await expectRestoresTruth(world, 2)
  })

  it('is caught when it was stored: by the run after, which stores the block whole', async () => {
    const world = await machineWithAPoint()
    await lieAboutANeighbour(world)
    expect(modes(await backup(world, off, tellOne))).toEqual(['root tracked', 'data tracked'])
    await expect(expectRestoresTruth(world, 2)).rejects.toMatchObject({ code: 'damaged' })
    const report = await backup(world, plenty)
    expect(modes(report)).toEqual(['root compared', 'data tracked'])
    expect(report.manifest.stores[0]?.distrust?.what).toMatch(/called 1 block of 64 KiB unchanged that is not: bytes 3145728/)
    await expectRestoresTruth(world, 3)
    const after = await backup(world, plenty)
    expect(after.distrusted).toEqual([])
    expect(after.manifest.stores[0]).toMatchObject({ distrust: null, changedBytes: 0 })
    expect(modes(await backup(world, plenty))).toEqual(['root tracked', 'data tracked'])
  })

  it('is caught after the archive was folded', async () => {
    const world = await machineWithAPoint()
    await lieAboutANeighbour(world)
    await backup(world, off, tellOne)
    await backup(world, off)
    const rules = { last: 1, hourly: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0 }
    const request = { machine: 'machine', rules, zone: 'UTC', level: 1, archiveCostBytes: 1 }
    const { plan } = await pruneMachine(world.environment, request, { signal })
    expect(plan.dropped).toEqual([2])
    await expect(expectRestoresTruth(world, 3)).rejects.toMatchObject({ code: 'damaged' })
    expect(modes(await backup(world, plenty))).toEqual(['root compared', 'data tracked'])
    await expectRestoresTruth(world, 5)
  })

  it('is caught by an audit alone', async () => {
    const world = await machineWithAPoint()
    await lieAboutANeighbour(world)
    await backup(world, off, tellOne)
    const { stores } = await audit(world, { whole: true })
    expect(stores).toMatchObject([{ name: 'root', missedBlocks: 1, ranges: [block] }, { name: 'data', missedBlocks: 0 }])
    expect(modes(await backup(world, off))).toEqual(['root compared', 'data tracked'])
    await expectRestoresTruth(world, 4)
  })

  it('is healed by a compared run that nobody warned', async () => {
    const world = await machineWithAPoint()
    await lieAboutANeighbour(world)
    await backup(world, off, tellOne)
    const lost = await backup(world, off, { root: { expired: true } })
    expect(modes(lost)).toEqual(['root compared', 'data tracked'])
    expect(lost.distrusted).toEqual([])
    await expectRestoresTruth(world, 3)
  })

  it('is healed where the tracker tells it late', async () => {
    const world = await machineWithAPoint()
    await lieAboutANeighbour(world)
    await backup(world, off, tellOne)
    await backup(world, off, { root: { changed: [block] } })
    await expectRestoresTruth(world, 3)
  })

  it('is caught in a block that each run touches', async () => {
    const world = await machineWithAPoint()
    await lieAboutANeighbour(world)
    await backup(world, off, tellOne)
    await write(world, 'root', 3 * MiB + 32_768, Buffer.alloc(16_384, 9))
    const report = await backup(world, plenty)
    expect(modes(report)).toEqual(['root compared', 'data tracked'])
    await expectRestoresTruth(world, 3)
  })

  it('is no lie where the rest became zeroes too: they are stored whole', async () => {
    const world = await machineWithAPoint()
    await write(world, 'root', 3 * MiB, Buffer.alloc(65_536))
    await backup(world, off, tellOne)
    await expectRestoresTruth(world, 2)
  })
})

it('finds nothing wrong with blocks that an honest tracker stores in part', async () => {
  const world = await machineWithAPoint()
  for (let run = 0; run < 4; run++) {
    for (let at = 0; at < 64; at++) await write(world, 'root', at * 131_072 + run * 16_384, Buffer.alloc(4096, run + 1))
    const report = await backup(world, plenty)
    expect(report.distrusted).toEqual([])
    expect(modes(report)).toEqual(['root tracked', 'data tracked'])
  }
  expect((await audit(world, { whole: true })).stores).toMatchObject([{ missedBlocks: 0, whole: true, checkedBlocks: 128 }, {}])
})
