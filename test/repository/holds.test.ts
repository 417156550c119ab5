import { expect, it } from 'vitest'
import { addHold, readHolds, removeHolds } from '../../src/repository/holds.js'
import { holdsFolder } from '../../src/repository/layout.js'
import { acquireLease } from '../../src/repository/lease.js'
import { memoryRepository } from '../../src/repository/memory/memory-repository.js'
import type { ProcessIdentity } from '../../src/repository/process-identity.js'
import { FakeClock } from './fake-clock.js'

const hold = (point: number) => ({ point, why: 'audit', since: '2026-01-31T03:00:00.000Z', host: 'here' })
const elsewhere: ProcessIdentity = { host: 'elsewhere', realm: 'elsewhere', pid: 1, start: '1' }

it('a hold lasts until it is released, and a point may have several', async () => {
  const repository = memoryRepository()
  await using lease = await acquireLease(repository, 'web01', { command: 'hold' })
  for (const point of [12, 3, 3]) await addHold(repository, 'web01', hold(point), lease)
  expect(await readHolds(repository, 'web01')).toEqual([hold(3), hold(3), hold(12)])
  expect(await removeHolds(repository, 'web01', 3)).toBe(2)
  expect(await removeHolds(repository, 'web01', 3)).toBe(0)
  expect(await readHolds(repository, 'web01')).toEqual([hold(12)])
})

it('a hold that slept while another run took over is taken back', async () => {
  const repository = memoryRepository()
  const clock = new FakeClock()
  const sleeper = await acquireLease(repository, 'web01', { command: 'hold', clock: new FakeClock(), self: elsewhere })
  const taking = acquireLease(repository, 'web01', { command: 'prune', clock })
  await clock.run(61_000)
  await using _taken = await taking
  await expect(addHold(repository, 'web01', hold(1), sleeper)).rejects.toMatchObject({ code: 'locked' })
  expect(await readHolds(repository, 'web01')).toEqual([])
})

it('a hold that can’t be read is told: what it holds must not go for that', async () => {
  const repository = memoryRepository()
  await repository.put(`${holdsFolder('web01')}/7-0d9b5f6c-7ad7-4bb5-9ad2-6a3a24a8f0aa.json`, [new Uint8Array(3)])
  await expect(readHolds(repository, 'web01')).rejects.toMatchObject({ code: 'damaged' })
  const strange = memoryRepository()
  await strange.put(`${holdsFolder('web01')}/seven.json`, [])
  await expect(readHolds(strange, 'web01')).rejects.toMatchObject({ code: 'damaged', hint: expect.stringContaining('nothing is pruned') })
})
