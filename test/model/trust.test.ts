import { expect, it } from 'vitest'
import type { AuditManifest, Distrust } from '../../src/model/manifest.js'
import { MissedBlocks } from '../../src/model/missed-blocks.js'
import { trustOf } from '../../src/model/trust.js'
import { aPoint, aStore } from './manifests.js'

const caught: Distrust = { since: 2, what: 'called 1 block of 64 KiB unchanged that is not' }

function anAudit(point: number, auditedTo: number, distrust: Distrust | null): AuditManifest {
  const store = { name: 'root', auditedTo, distrust, checkedBlocks: 1, missedBlocks: 0, whole: false }
  const { format, requires, repositoryId, machine, machineUuid, tracker, time, agent } = aPoint({})
  const known = { format, requires, repositoryId, machine, machineUuid, tracker, time, agent }
  return { ...known, type: 'audit', point, against: 1, nonce: 'n', durationMs: 1, stores: [store] }
}

it('trusts a store that nobody spoke of', () => {
  expect(trustOf([aPoint({ point: 1 })], 'other')).toEqual({ auditedTo: 0, distrust: null })
})

it('takes the newest word, of points and of audits, whatever their order', () => {
  const first = aPoint({ point: 1, stores: [aStore({ auditedTo: 1, distrust: null })] })
  const second = aPoint({ point: 2, stores: [aStore({ auditedTo: 2, distrust: caught })] })
  const third = anAudit(3, 3, null)
  expect(trustOf([second, first], 'root')).toEqual({ auditedTo: 2, distrust: caught })
  expect(trustOf([third, second, first], 'root')).toEqual({ auditedTo: 3, distrust: null })
  expect(trustOf([first, third, anAudit(4, 4, caught)], 'root')).toEqual({ auditedTo: 4, distrust: caught })
})

it('takes the word on a store of a newer point that lacks it from the older one', () => {
  const second = aPoint({ point: 2, stores: [aStore({ distrust: caught })] })
  const third = aPoint({ point: 3, stores: [aStore({ name: 'data' })] })
  expect(trustOf([second, third], 'root').distrust).toEqual(caught)
})

it('tells missed blocks as ranges, joined, the last one as short as the store', () => {
  const missed = new MissedBlocks()
  for (const block of [9, 3, 2, 4, 0]) missed.add(block)
  const sizeBytes = 9 * 65_536 + 512
  expect(missed.ranges(sizeBytes)).toEqual([
    { offset: 0, length: 65_536 },
    { offset: 2 * 65_536, length: 3 * 65_536 },
    { offset: 9 * 65_536, length: 512 },
  ])
  expect(missed.describe(sizeBytes)).toBe(
    'called 5 blocks of 64 KiB unchanged that are not: bytes 0 to 65536, 131072 to 327680, 589824 to 590336',
  )
})

it('stays small and quick when everything was missed', () => {
  const missed = new MissedBlocks()
  for (let block = 0; block < 1_000_000; block += 2) missed.add(block)
  expect(missed.count).toBe(500_000)
  expect(missed.ranges(1e12)).toHaveLength(1000)
  expect(missed.describe(1e12).length).toBeLessThan(250)
})
