import { describe, expect, it } from 'vitest'
import type { FoldManifest } from '../../src/model/manifest.js'
import { commitSlot } from '../../src/repository/commit.js'
import { encodeJson } from '../../src/repository/json-object.js'
import { archivesFolder, pointName, pointsFolder, revisionName } from '../../src/repository/layout.js'
import { acquireLease, type Lease } from '../../src/repository/lease.js'
import { openMachine } from '../../src/repository/machine.js'
import { readManifests } from '../../src/repository/manifests.js'
import { memoryRepository } from '../../src/repository/memory/memory-repository.js'
import { pinMachine } from '../../src/repository/pin.js'
import { currentProcess, type ProcessIdentity } from '../../src/repository/process-identity.js'
import type { PruneRepository } from '../../src/repository/repository.js'
import { tidyMachine } from '../../src/repository/tidy.js'
import { FakeClock } from './fake-clock.js'
import { pointManifest } from './manifest.js'

const here = currentProcess()
const elsewhere: ProcessIdentity = { host: 'elsewhere', realm: 'elsewhere', pid: 1, start: '1' }

async function machineWith(count: number, clock = new FakeClock()) {
  const repository = memoryRepository()
  const { uuid } = await openMachine(repository, 'web01', { create: true, hostId: '' })
  const lease = (self: ProcessIdentity = here, own: FakeClock = clock) =>
    acquireLease(repository, 'web01', { command: 'test', clock: own, self })
  const commit = async (held: Lease, parent: number | null): Promise<void> => {
    const manifest = pointManifest({ point: held.slot, parent, machineUuid: uuid })
    await repository.put(manifest.archive.name, [new Uint8Array(5000)])
    await commitSlot(repository, manifest)
  }
  for (let point = 1; point <= count; point += 1) {
    await using held = await lease()
    await commit(held, point === 1 ? null : point - 1)
  }
  /** Drops #1, folded into #2. */
  const fold = async (held: Lease): Promise<void> => {
    const archive = { name: `${archivesFolder('web01')}/folded.tar.zst`, bytes: 7, sha256: 'ef'.repeat(32) }
    await repository.put(archive.name, [new Uint8Array(7)])
    const revised = pointManifest({ point: 2, parent: null, machineUuid: uuid, revision: held.slot, archive })
    await repository.claim(revisionName('web01', 2, held.slot), encodeJson(revised))
    await commitSlot(repository, foldOf(uuid, held.slot))
  }
  return { repository, clock, lease, commit, fold, uuid }
}

function foldOf(machineUuid: string, slot: number): FoldManifest {
  return {
    format: 1,
    requires: ['folds'],
    optional: [],
    type: 'fold',
    machine: 'web01',
    machineUuid,
    point: slot,
    nonce: `fold ${slot}`,
    time: '2026-01-31T03:00:00.000Z',
    agent: 'test',
    dropped: [[1, 1]],
    revisions: [[2, slot]],
  }
}

async function archives(repository: PruneRepository): Promise<readonly string[]> {
  return await repository.children(archivesFolder('web01'))
}

describe('a history with a fold', () => {
  it('is what the fold says, whatever objects are left', async () => {
    const { repository, lease, fold } = await machineWith(3)
    await fold(await lease())
    const { points, problems, superseded, fold: newest, nextSlot } = await readManifests(repository, 'web01')
    expect(points.map(({ point, parent, revision }) => [point, parent, revision])).toEqual([
      [2, null, 4],
      [3, 2, undefined],
    ])
    expect(problems).toEqual([])
    expect(superseded).toEqual([pointName('web01', 1), pointName('web01', 2)])
    expect(newest?.point).toBe(4)
    expect(nextSlot).toBe(5)
  })

  it('takes no notice of revisions that no fold names', async () => {
    const { repository, uuid } = await machineWith(3)
    const archive = { name: `${archivesFolder('web01')}/x.tar.zst`, bytes: 7, sha256: 'ef'.repeat(32) }
    const stray = pointManifest({ point: 2, parent: null, machineUuid: uuid, revision: 4, archive })
    await repository.claim(revisionName('web01', 2, 4), encodeJson(stray))
    const { points, problems } = await readManifests(repository, 'web01')
    expect(points.map(({ revision }) => revision)).toEqual([undefined, undefined, undefined])
    expect(problems).toEqual([])
  })

  it('tells a revision that is gone, or is of something else', async () => {
    const { repository, lease, fold } = await machineWith(3)
    await fold(await lease())
    const object = revisionName('web01', 2, 4)
    const whole = await repository.read(object, 1 << 20)
    await repository.put(object, [new TextEncoder().encode(Buffer.from(whole ?? []).toString().replace('"revision": 4', '"revision": 3'))])
    expect((await readManifests(repository, 'web01')).problems).toMatchObject([
      { point: 2, message: expect.stringContaining('not revision 4') },
      { point: 3, message: expect.stringContaining('parent') },
    ])
    await repository.remove([object])
    expect((await readManifests(repository, 'web01')).problems).toMatchObject([
      { point: 2, message: expect.stringContaining('missing') },
      { point: 3 },
    ])
  })

  it('falls back on the highest revisions where the fold can’t be read, tells it, and nothing is removed then', async () => {
    const { repository, lease, fold } = await machineWith(3)
    {
      await using held = await lease()
      await fold(held)
      await tidyMachine(repository, 'web01', held, { watch: false })
    }
    await repository.put(pointName('web01', 4), [new TextEncoder().encode('{')])
    const { points, problems } = await readManifests(repository, 'web01')
    expect(points.map(({ point, revision }) => [point, revision])).toEqual([
      [2, 4],
      [3, undefined],
    ])
    expect(problems.map(({ point }) => point)).toEqual([1, 4])
    await repository.put(`${archivesFolder('web01')}/stray.tar.zst`, [])
    await using held = await lease()
    expect(await tidyMachine(repository, 'web01', held, { watch: false })).toMatchObject({ removedObjects: 0 })
    expect(await archives(repository)).toContain('stray.tar.zst')
  })
})

describe('tidying', () => {
  it('removes what the fold gave up and what no manifest names, and nothing else', async () => {
    const { repository, lease, fold } = await machineWith(3)
    await using held = await lease()
    await fold(held)
    await repository.put(`${archivesFolder('web01')}/stray.tar.zst`, [new Uint8Array(11)])
    const tidied = await tidyMachine(repository, 'web01', held, { watch: false })
    expect(tidied).toMatchObject({ removedObjects: 5, removedBytes: 10_011, deferredObjects: 0 })
    expect(await archives(repository)).toEqual(['a3.tar.zst', 'folded.tar.zst'])
    expect(await repository.children(pointsFolder('web01'))).toEqual(['00000002.r4.json', '00000003.json', '00000004.json'])
    expect((await readManifests(repository, 'web01')).problems).toEqual([])
  })

  it('leaves it while a reader that knows nothing of the fold is there, and does not wait for one that does', async () => {
    const { repository, clock, lease, fold } = await machineWith(3)
    const old = await pinMachine(repository, 'web01', { command: 'restore', clock, self: here })
    await using held = await lease()
    await fold(held)
    await using young = await pinMachine(repository, 'web01', { command: 'verify', clock, self: here })
    const options = { watch: false, clock, self: here }
    const deferred = await tidyMachine(repository, 'web01', held, options)
    expect(deferred).toMatchObject({ removedObjects: 0, deferredObjects: 4, deferredBytes: 10_000 })
    expect(deferred.deferredFor).toEqual([expect.stringContaining("'restore' (pid")])
    await old[Symbol.asyncDispose]()
    expect(await tidyMachine(repository, 'web01', held, options)).toMatchObject({ removedObjects: 4, deferredObjects: 0 })
    await young.assertHeld()
  })

  it('takes a reader elsewhere for dead after one TTL of silence, if it may wait; the reader is told so', async () => {
    const { repository, clock, lease, fold } = await machineWith(3)
    const asleep = new FakeClock()
    const reader = await pinMachine(repository, 'web01', { command: 'restore', clock: asleep, self: elsewhere })
    const held = await lease()
    await fold(held)
    expect(await tidyMachine(repository, 'web01', held, { watch: false, clock, self: here })).toMatchObject({ deferredObjects: 4 })
    const waiting = tidyMachine(repository, 'web01', held, { watch: true, clock, self: here })
    await clock.run(59_000)
    await reader.assertHeld()
    await clock.run(3000)
    expect(await waiting).toMatchObject({ removedObjects: 4 })
    await expect(reader.assertHeld()).rejects.toMatchObject({ code: 'locked' })
    // Renewing does not bring it back.
    await asleep.run(61_000)
    await expect(reader.assertHeld()).rejects.toMatchObject({ code: 'locked' })
  })

  it('waits no longer for a reader elsewhere that is seen to live', async () => {
    const { repository, clock, lease, fold } = await machineWith(3)
    await using reader = await pinMachine(repository, 'web01', { command: 'restore', clock, self: elsewhere })
    const held = await lease()
    await fold(held)
    const waiting = tidyMachine(repository, 'web01', held, { watch: true, clock, self: here })
    await clock.run(17_000)
    expect(await waiting).toMatchObject({ removedObjects: 0, deferredObjects: 4 })
    await reader.assertHeld()
  })

  it('of a sleeper removes nothing of those who took over', async () => {
    for (const sleepsAt of ['children', 'list', 'read'] as const) {
      const { repository, clock, lease, commit } = await machineWith(2)
      const held = await lease(elsewhere, new FakeClock())
      // Sleeps once, the first time that it calls this; meanwhile another run takes over and commits.
      let slept = false
      const nap = async (): Promise<void> => {
        if (slept) return
        slept = true
        const other = lease()
        await clock.run(90_000)
        await using taken = await other
        await commit(taken, 2)
      }
      const sleepy: PruneRepository = {
        ...repository,
        children: async (prefix) => {
          if (sleepsAt === 'children') await nap()
          return await repository.children(prefix)
        },
        list: async function* (prefix) {
          if (sleepsAt === 'list') await nap()
          yield* repository.list(prefix)
        },
        read: async (name, limit) => {
          if (sleepsAt === 'read' && name.includes('/points/')) await nap()
          return await repository.read(name, limit)
        },
      }
      await tidyMachine(sleepy, 'web01', held, { watch: false }).catch((error: unknown) => {
        expect(error).toMatchObject({ code: 'locked' })
      })
      expect(slept, sleepsAt).toBe(true)
      expect(await archives(repository), sleepsAt).toEqual(['a1.tar.zst', 'a2.tar.zst', 'a4.tar.zst'])
    }
  })

  it('does not take archives without any manifest for leftovers', async () => {
    const { repository, lease } = await machineWith(3)
    for (const name of await repository.children(pointsFolder('web01'))) {
      await repository.remove([`${pointsFolder('web01')}/${name}`])
    }
    await using held = await lease()
    const { manifests, removedObjects } = await tidyMachine(repository, 'web01', held, { watch: false })
    expect(manifests.problems).toMatchObject([{ message: 'the manifest of points #1 to #2 is missing' }])
    expect(removedObjects).toBe(0)
    expect(await archives(repository)).toHaveLength(3)
    // Their numbers are not used again.
    expect(held.slot).toBe(3)
  })
})
