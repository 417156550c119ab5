import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { chooseKept, type KeepRules, type RetentionPoint } from '../../src/model/retention.js'
import { offsetMinutesIn } from '../../src/operations/prune/zone.js'

const utc = offsetMinutesIn('UTC')
const hour = 3_600_000
const day = 24 * hour

function points(...times: (string | number)[]): RetentionPoint[] {
  return times.map((time, i) => ({ point: i + 1, timeMs: new Date(time).getTime(), damaged: false, held: false }))
}

function kept(rules: KeepRules, list: readonly RetentionPoint[], offsetMinutes = utc): number[] {
  return [...chooseKept({ rules, points: list, offsetMinutes }).keys()].sort((a, b) => a - b)
}

/** One point a day at 03:00 UTC. */
function dailies(count: number, from = Date.UTC(2026, 0, 1, 3)): RetentionPoint[] {
  return points(...Array.from({ length: count }, (_, i) => from + i * day))
}

describe('which points stay', () => {
  it('keeps the newest of each period, each rule for itself', () => {
    const list = points('2026-01-30T03:00Z', '2026-01-31T03:00Z', '2026-01-31T09:00Z', '2026-02-01T03:00Z')
    expect(kept({ daily: 2 }, list)).toEqual([3, 4])
    expect(kept({ daily: 3 }, list)).toEqual([1, 3, 4])
    expect(kept({ monthly: 2 }, list)).toEqual([3, 4])
    expect(kept({ last: 1, monthly: 2 }, list)).toEqual([3, 4])
    expect(kept({ yearly: 9 }, list)).toEqual([4])
  })

  it('tells every rule by which a point stays', () => {
    const reasons = chooseKept({ rules: { last: 2, daily: 1, weekly: 1 }, points: dailies(3), offsetMinutes: utc })
    expect([...reasons]).toEqual([
      [3, ['newest', 'last', 'daily', 'weekly']],
      [2, ['last']],
    ])
  })

  it('counts weeks from Monday, also over the turn of a year', () => {
    // 2026-12-28 is a Monday: the week goes on until 2027-01-03.
    const list = points('2026-12-27T12:00Z', '2026-12-28T12:00Z', '2027-01-03T12:00Z', '2027-01-04T12:00Z')
    expect(kept({ weekly: 9 }, list)).toEqual([1, 3, 4])
    expect(kept({ weekly: 9 }, points('1969-12-28T12:00Z', '1969-12-29T12:00Z', '1970-01-04T12:00Z'))).toEqual([1, 3])
  })

  it('counts days in the zone that is named', () => {
    const list = points('2026-01-31T22:30Z', '2026-01-31T23:30Z')
    expect(kept({ daily: 9 }, list)).toEqual([2])
    expect(kept({ daily: 9 }, list, offsetMinutesIn('Europe/Berlin'))).toEqual([1, 2])
    expect(kept({ daily: 9 }, list, offsetMinutesIn('America/New_York'))).toEqual([2])
  })

  it('counts the hour that a change of clocks repeats twice, and a day of 23 or 25 hours once', () => {
    const berlin = offsetMinutesIn('Europe/Berlin')
    const autumn = points('2026-10-25T00:30Z', '2026-10-25T01:30Z') // 02:30 twice
    expect(kept({ hourly: 9 }, autumn, berlin)).toEqual([1, 2])
    expect(kept({ daily: 9 }, autumn, berlin)).toEqual([2])
    const spring = Array.from({ length: 23 }, (_, i) => Date.UTC(2026, 2, 28, 23) + i * hour)
    expect(kept({ daily: 9 }, points(...spring), berlin)).toEqual([23])
    expect(kept({ hourly: 99 }, points(...spring), berlin)).toHaveLength(23)
    expect(kept({ hourly: 9 }, points('2026-01-01T00:29Z', '2026-01-01T00:31Z'), offsetMinutesIn('Asia/Kolkata'))).toEqual([1, 2])
  })

  it('goes by slots where the clock jumps', () => {
    // The clock was a week ahead for #2; #3 is newer all the same.
    const list = points('2026-01-10T03:00Z', '2026-01-17T03:00Z', '2026-01-11T03:00Z')
    expect(kept({ last: 1 }, list)).toEqual([3])
    expect(kept({ daily: 2 }, list)).toEqual([2, 3])
    // Put back over midnight: the day is one period, and its newest is the newest slot.
    const back = points('2026-01-10T03:00Z', '2026-01-11T00:10Z', '2026-01-10T23:50Z')
    expect(kept({ daily: 9 }, back)).toEqual([2, 3])
  })

  it('lets no damaged point push a whole one out', () => {
    const list = dailies(5).map((point) => ({ ...point, damaged: point.point >= 4 }))
    expect(kept({ last: 1 }, list)).toEqual([3, 5])
    expect(kept({ daily: 2 }, list)).toEqual([2, 3, 4, 5])
    const all = dailies(3).map((point) => ({ ...point, damaged: true }))
    expect(kept({ last: 1 }, all)).toEqual([3])
  })

  it('keeps what is held', () => {
    const list = dailies(9).map((point) => ({ ...point, held: point.point === 2 }))
    expect(kept({ last: 1 }, list)).toEqual([2, 9])
  })

  const anyRules = fc.record({
    last: fc.nat(5),
    hourly: fc.nat(30),
    daily: fc.nat(20),
    weekly: fc.nat(9),
    monthly: fc.nat(13),
    yearly: fc.nat(5),
  })
  const anyHistory = fc
    .array(
      fc.record({
        stepMs: fc.integer({ min: -3 * day, max: 40 * day }),
        damaged: fc.boolean(),
        held: fc.boolean(),
      }),
      { maxLength: 80 },
    )
    .map((steps) => {
      let timeMs = Date.UTC(2026, 9, 24)
      return steps.map(({ stepMs, damaged, held }, i) => ({ point: i + 1, timeMs: (timeMs += stepMs), damaged, held }))
    })
  const anyZone = fc.constantFrom('UTC', 'Europe/Berlin', 'America/St_Johns', 'Pacific/Apia').map(offsetMinutesIn)

  it('always keeps the newest, the newest whole one, what is held, and enough of each rule', () => {
    fc.assert(
      fc.property(anyRules, anyHistory, anyZone, (rules, list, offsetMinutes) => {
        const reasons = chooseKept({ rules, points: list, offsetMinutes })
        const good = list.filter((point) => !point.damaged)
        for (const newest of [list.at(-1), good.at(-1)]) if (newest !== undefined) expect(reasons.has(newest.point)).toBe(true)
        for (const { point, held } of list) expect(reasons.get(point)?.includes('held') ?? false).toBe(held)
        for (const [rule, count] of Object.entries(rules) as [keyof KeepRules, number][]) {
          const whole = good.filter(({ point }) => reasons.get(point)?.includes(rule))
          expect(whole.length).toBeLessThanOrEqual(count)
          if (rule === 'last') expect(whole.length).toBe(Math.min(count, good.length))
        }
      }),
    )
  })

  it('never wants back what it let go: pruning after each point keeps what pruning once at the end does', () => {
    fc.assert(
      fc.property(anyRules, anyHistory, anyZone, (rules, list, offsetMinutes) => {
        const sound = list.map((point) => ({ ...point, damaged: false, held: false }))
        let left: RetentionPoint[] = []
        for (const point of sound) {
          left.push(point)
          const reasons = chooseKept({ rules, points: left, offsetMinutes })
          left = left.filter((candidate) => reasons.has(candidate.point))
        }
        expect(left.map(({ point }) => point)).toEqual(kept(rules, sound, offsetMinutes))
      }),
    )
  })

  it('keeps nothing else for points that stay on: what others need changes no choice', () => {
    fc.assert(
      fc.property(anyRules, anyHistory, fc.infiniteStream(fc.boolean()), (rules, list, stays) => {
        const sound = list.map((point) => ({ ...point, damaged: false, held: false }))
        let left: RetentionPoint[] = []
        for (const point of sound) {
          left.push(point)
          const reasons = chooseKept({ rules, points: left, offsetMinutes: utc })
          left = left.filter((candidate) => reasons.has(candidate.point) || stays.next().value === true)
        }
        expect(kept(rules, left)).toEqual(kept(rules, sound))
      }),
    )
  })
})
