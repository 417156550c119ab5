import { describe, expect, it } from 'vitest'
import type { PointManifest } from '../../src/model/manifest.js'
import { commitSlot } from '../../src/repository/commit.js'
import { encodeJson } from '../../src/repository/json-object.js'
import { machineRecordName, pointName } from '../../src/repository/layout.js'
import { openMachine } from '../../src/repository/machine.js'
import { findNextSlot, readManifests } from '../../src/repository/manifests.js'
import { memoryRepository } from '../../src/repository/memory/memory-repository.js'
import type { PruneRepository } from '../../src/repository/repository.js'
import { pointManifest } from './manifest.js'

const aborted = (point: number) =>
  ({ format: 1, type: 'aborted', point, nonce: 'x', time: '2026-01-31T03:00:00.000Z', reason: 'asleep' }) as const

/** A machine with `count` points, and how to write its manifests. */
async function machineWith(count: number) {
  const repository = memoryRepository()
  const { uuid } = await openMachine(repository, 'web01', { create: true, hostId: '' })
  const make = (fields: Partial<PointManifest>) => pointManifest({ machineUuid: uuid, ...fields })
  const write = (slot: number, value: unknown) => repository.put(pointName('web01', slot), [encodeJson(value)])
  for (let point = 1; point <= count; point += 1) await write(point, make({ point }))
  return { repository, make, write }
}

async function told(repository: PruneRepository) {
  const { points, problems } = await readManifests(repository, 'web01')
  return { points: points.map(({ point }) => point), problems: problems.map(({ point, message }) => [point, message]) }
}

describe('manifests', () => {
  it('of a machine without any', async () => {
    const { repository } = await machineWith(0)
    const nothing = { points: [], aborted: [], audits: [], fold: undefined, superseded: [], problems: [], nextSlot: 1 }
    expect(await readManifests(repository, 'web01')).toEqual(nothing)
    expect(await findNextSlot(repository, 'web01')).toBe(1)
  })

  it('come in order, with burnt slots apart', async () => {
    const { repository, make, write } = await machineWith(2)
    await write(3, aborted(3))
    await write(4, make({ point: 4, parent: 2 }))
    const { points, aborted: burnt, problems, nextSlot } = await readManifests(repository, 'web01')
    expect(points).toEqual([make({ point: 1 }), make({ point: 2 }), make({ point: 4, parent: 2 })])
    expect(burnt).toEqual([aborted(3)])
    expect(problems).toEqual([])
    expect(nextSlot).toBe(5)
    expect(await findNextSlot(repository, 'web01')).toBe(5)
  })

  it.each<[string, (make: (fields: Partial<PointManifest>) => PointManifest) => unknown, string]>([
    ['is of another slot', (make) => make({ point: 1 }), 'is of point #1'],
    ['is of another machine', (make) => make({ point: 2, machine: 'web02' }), "is of machine 'web02'"],
    ['has another uuid', (make) => make({ point: 2, machineUuid: 'other' }), 'of another machine (uuid other)'],
    ['is its own parent', (make) => make({ point: 2, parent: 2 }), 'not earlier'],
    [
      'names an archive elsewhere',
      (make) => make({ point: 2, archive: { ...make({}).archive, name: '../x' } }),
      'outside',
    ],
    ['is of a newer format', (make) => ({ ...make({ point: 2 }), format: 2 }), 'needs a newer refpoint (format 2)'],
    ['needs a newer reader', (make) => make({ point: 2, requires: ['age'] }), 'needs a newer refpoint (age)'],
    ['lacks a field', (make) => ({ ...make({ point: 2 }), stores: undefined }), 'stores: '],
    [
      'names a store twice',
      (make) => make({ point: 2, stores: [...make({}).stores, ...make({}).stores] }),
      'named twice',
    ],
  ])('tell the point whose manifest %s', async (_name, value, message) => {
    const { repository, make, write } = await machineWith(3)
    await write(2, value(make))
    const { points, problems } = await told(repository)
    expect(points).toEqual([1, 3])
    expect(problems).toEqual([
      [2, expect.stringContaining(message)],
      [3, 'the parent of point #3, #2, is missing or unreadable'],
    ])
    expect((await readManifests(repository, 'web01')).nextSlot).toBe(4)
  })

  it('tell the point whose manifest is cut short', async () => {
    const { repository } = await machineWith(2)
    await repository.put(pointName('web01', 2), [new TextEncoder().encode('{"format')])
    expect(await told(repository)).toEqual({ points: [1], problems: [[2, expect.stringContaining('is not JSON')]] })
  })

  it('tell a manifest that is missing, and who needs it', async () => {
    const { repository } = await machineWith(5)
    await repository.remove([pointName('web01', 2)])
    await repository.remove([pointName('web01', 3)])
    expect(await told(repository)).toEqual({
      points: [1, 4, 5],
      problems: [
        [2, 'the manifest of points #2 to #3 is missing'],
        [4, 'the parent of point #4, #3, is missing or unreadable'],
      ],
    })
  })

  it('tell strange objects among them, and a machine record that is gone', async () => {
    const { repository } = await machineWith(1)
    await repository.put('machines/web01/points/1.json', [])
    await repository.remove([machineRecordName('web01')])
    const { points, problems } = await told(repository)
    expect(points).toEqual([1])
    expect(problems).toEqual([
      [undefined, "1.json is no manifest's name"],
      [undefined, "the record of machine 'web01' is missing"],
    ])
  })

  it('ignore keys and signatures that a later version adds', async () => {
    const { repository, make, write } = await machineWith(0)
    await write(1, { ...make({ point: 1 }), optional: ['signed'], signatures: [{ by: 'someone' }], more: true })
    const { points, problems } = await readManifests(repository, 'web01')
    expect(problems).toEqual([])
    expect(points).toEqual([make({ point: 1, optional: ['signed'] })])
  })
})

describe('a commit', () => {
  it('may be repeated, and is refused to another', async () => {
    const { repository, make } = await machineWith(1)
    await commitSlot(repository, make({ point: 2 }))
    await commitSlot(repository, make({ point: 2 }))
    const other = commitSlot(repository, make({ point: 2, nonce: 'other' }))
    const hint = expect.stringContaining('Nothing was committed')
    await expect(other).rejects.toMatchObject({ code: 'locked', hint })
    expect((await readManifests(repository, 'web01')).points[1]?.nonce).toBe('nonce-2')
  })

  it('is refused where the slot holds something unreadable', async () => {
    const { repository, make } = await machineWith(1)
    await repository.put(pointName('web01', 2), [])
    await expect(commitSlot(repository, make({ point: 2 }))).rejects.toMatchObject({ code: 'locked' })
  })
})
