import { describe, expect, it } from 'vitest'
import type { RunOutcome, RunRecord } from '../../src/model/run.js'
import { type MachineFacts, machineStatus } from '../../src/operations/status/machine-status.js'
import { aPoint, aStore } from '../model/manifests.js'

const day = 86_400_000
const at = (time: string): Date => new Date(time)

/** Daily points at midnight from 2026-01-01 on. */
function facts(changes: Partial<MachineFacts> = {}): MachineFacts {
  return {
    machine: 'web01',
    points: [aPoint(), aPoint({ point: 2, parent: 1, stores: [aStore({ mode: 'tracked' })] })],
    audits: [],
    damage: [],
    records: [],
    recordProblems: [],
    proofs: { format: 1, proven: {}, damaged: {} },
    running: undefined,
    schedule: '0 0 * * *',
    zone: 'UTC',
    verifyWithinMs: undefined,
    ...changes,
  }
}

function outcome(changes: Partial<RunOutcome> = {}): RunOutcome {
  const time = '2026-01-02T00:00:00.000Z'
  return { result: 'done', startedAt: time, endedAt: time, host: 'h', command: 'c', error: null, warnings: [], facts: {}, ...changes }
}

function record(changes: Partial<RunRecord> = {}): RunRecord {
  return { format: 1, machine: 'web01', kind: 'backup', last: outcome(), lastDone: outcome(), failures: 0, skipped: 0, skippedSince: null, ...changes }
}

const alarmsOf = (changes: Partial<MachineFacts>, now: string): string[] => {
  return machineStatus(facts(changes), at(now)).alarms.map(({ alarm }) => alarm)
}

describe('a machine is overdue', () => {
  it.each([
    ['0 0 * * *', '2026-01-03T11:59:00Z', []],
    ['0 0 * * *', '2026-01-03T12:01:00Z', ['overdue']],
    ['0 * * * *', '2026-01-02T01:59:00Z', []],
    ['0 * * * *', '2026-01-02T02:01:00Z', ['overdue']],
    // Weekly, on Mondays: the next is 2026-01-05.
    ['0 0 * * 1', '2026-01-05T11:00:00Z', []],
    ['0 0 * * 1', '2026-01-05T13:00:00Z', ['overdue']],
  ])('by %s, when it is %s: %j', (schedule, now, expected) => {
    expect(alarmsOf({ schedule }, now)).toEqual(expected)
  })

  it('never where nobody said when it is backed up, and at once where it never was', () => {
    expect(alarmsOf({ schedule: undefined }, '2030-01-01T00:00:00Z')).toEqual([])
    expect(alarmsOf({ points: [] }, '2026-01-01T00:00:00Z')).toEqual(['never'])
    expect(alarmsOf({ points: [], schedule: undefined }, '2026-01-01T00:00:00Z')).toEqual([])
  })
})

const soon = '2026-01-02T01:00:00Z'

it.each<[string, Partial<MachineFacts>, RegExp]>([
  ['failing', { records: [record({ failures: 3, last: outcome({ result: 'failed', error: { code: 'io', message: 'full', hint: null } }) })] }, /backup failed 3 times in a row: full/],
  ['locked', { records: [record({ kind: 'prune', skipped: 2, skippedSince: '2026-01-01T00:00:00.000Z' })] }, /prune found it locked 2 times in a row, since 2026-01-01/],
  ['damaged', { damage: ['the manifest of point #1 is missing'] }, /manifest of point #1/],
  ['damaged', { proofs: { format: 1, proven: {}, damaged: { 1: { what: 'a digest', affects: [2] } } } }, /can't be restored whole: #2/],
  ['distrusted', { points: [aPoint({ stores: [aStore({ distrust: { since: 1, what: '3 blocks' } })] })] }, /tracker of root/],
  ['record', { recordProblems: ['runs/verify.json is not JSON'] }, /runs\/verify\.json is not JSON/],
  ['clock', { points: [aPoint({ time: '2027-01-01T00:00:00.000Z' })] }, /point #1 is of the future/],
  ['clock', { records: [record({ kind: 'verify', last: outcome({ endedAt: '2026-01-02T02:00:00.000Z' }) })] }, /the last verify is of the future/],
  ['clock', { proofs: { format: 1, proven: { '1.tar.zst': Date.UTC(2026, 6) / 1000 }, damaged: {} } }, /verified archive is of the future/],
])('tells that a machine is %s', (alarm, changes, message) => {
  expect(machineStatus(facts(changes), at(soon)).alarms).toEqual([{ alarm, message: expect.stringMatching(message) }])
})

it('does not call a point damaged that is gone', () => {
  expect(alarmsOf({ proofs: { format: 1, proven: {}, damaged: { 7: { what: 'a digest', affects: [7] } } } }, soon)).toEqual([])
})

it('tells when something was not proven within the time that was said, counted from when it was made', () => {
  const verifyWithinMs = 30 * day
  const proven = (first: string): MachineFacts['proofs'] => {
    return { format: 1, proven: { '1.tar.zst': Date.parse(first) / 1000 }, damaged: {} }
  }
  const later = { schedule: undefined, verifyWithinMs }
  expect(alarmsOf(later, '2026-01-30T00:00:00Z')).toEqual([])
  expect(alarmsOf(later, '2026-02-01T00:00:00Z')).toEqual(['unproven'])
  const told = machineStatus(facts({ ...later, proofs: proven('2026-01-20T00:00:00Z') }), at('2026-01-31T12:00:00Z'))
  expect(told.alarms).toEqual([])
  expect(told.unprovenPoints).toBe(1)
  expect(alarmsOf({ ...later, proofs: proven('2026-01-20T00:00:00Z') }, '2026-02-02T00:00:00Z')).toEqual(['unproven'])
})

it('tells chain, sizes, growth and how long the rotation of audits takes', () => {
  // 16 blocks, of which each day's run audits 2.
  const points = Array.from({ length: 9 }, (_, i) =>
    aPoint({
      point: i + 1,
      parent: i === 0 ? null : i,
      stores: [aStore({ mode: i === 0 ? 'full' : 'tracked', auditedTo: (i * 2) % 16 })],
      archive: { name: `machines/web01/archives/${i}.tar.zst`, bytes: i === 0 ? 1000 : 100, sha256: '0'.repeat(64) },
    }),
  )
  const status = machineStatus(facts({ points }), at('2026-01-09T00:00:00Z'))
  expect(status).toMatchObject({ points: 9, chainLength: 9, diskBytes: 1_048_576, archivesBytes: 1800, auditDays: 8 })
  expect(status.growthBytesPerDay).toBeCloseTo(100)
  expect(status.lastAudit).toBe('2026-01-09T00:00:00.000Z')
  expect(status.dueAt).toBe('2026-01-10T00:00:00.000Z')
})
