import { spawnSync } from 'node:child_process'
import fc from 'fast-check'
import { Cron } from 'croner'
import { describe, expect, it } from 'vitest'
import { faultOf, nextTime, zoneFault } from '../../src/schedule/expression.js'
import { parseFields } from '../../src/schedule/fields.js'
import { onCalendar } from '../../src/schedule/on-calendar.js'
import { spreadExpression } from '../../src/schedule/spread.js'

describe('an expression', () => {
  it.each(['0 3 * * *', '*/15 * * * *', '7,37 8-18/2 1 jan-mar mon', '0 0 1 * 7', '5 4 29 2 *'])('%s is one', (text) => {
    expect(faultOf(text)).toBeUndefined()
  })

  it.each([
    ['0 3 * *', /4 fields/],
    ['0 0 3 * * *', /6 fields/],
    ['@daily', /1 fields/],
    ['60 * * * *', /"60" is no minute \(0 to 59\)/],
    ['0 24 * * *', /"24" is no hour/],
    ['0 3 0 * *', /no day/],
    ['0 3 * 13 *', /no month/],
    ['0 3 * * 8', /no weekday/],
    ['0 3 * * L', /no weekday/],
    ['0 3 30-10 * *', /ends before it begins/],
    ['*/0 * * * *', /steps of nothing/],
    ['0 3 31 2 *', /never comes/],
    ['a b c d e', /no weekday/],
    ['0 3 */2 * 1', /one cron/],
  ])('%s is none', (text, why) => {
    expect(faultOf(text)).toMatch(why)
  })

  it('is understood as the library understands it', () => {
    const field = (low: number, high: number) =>
      fc.oneof(
        fc.constant('*'),
        fc.integer({ min: 2, max: 7 }).map((step) => `*/${step}`),
        fc.uniqueArray(fc.integer({ min: low, max: high }), { minLength: 1, maxLength: 4 }).map((list) => list.join(',')),
        fc.tuple(fc.integer({ min: low, max: high }), fc.integer({ min: low, max: high })).map(([a, b]) => `${Math.min(a, b)}-${Math.max(a, b)}`),
      )
    fc.assert(
      fc.property(field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 6), (...parts) => {
        const text = parts.join(' ')
        if (faultOf(text) !== undefined) return
        const { minutes, hours, days, months, weekdays, anyDay, anyWeekday } = parseFields(text)
        for (const next of new Cron(text, { paused: true, timezone: 'UTC' }).nextRuns(20, '2026-01-31T00:00:00')) {
          expect(minutes).toContain(next.getUTCMinutes())
          expect(hours).toContain(next.getUTCHours())
          expect(months).toContain(next.getUTCMonth() + 1)
          const day = days.includes(next.getUTCDate())
          const weekday = weekdays.includes(next.getUTCDay())
          expect(anyDay || anyWeekday ? day && weekday : day || weekday, text).toBe(true)
        }
      }),
      { numRuns: 100 },
    )
  })
})

describe('the next time', () => {
  const times = (expression: string, from: string, zone: string, count: number): string[] => {
    const found: string[] = []
    for (let at = new Date(from); found.length < count; ) {
      at = nextTime(expression, at, zone)
      found.push(at.toISOString())
    }
    return found
  }

  it('that a change of clocks skips comes when the clocks have moved on, and not a day late', () => {
    // At 02:00 it is 03:00 in Berlin on 2026-03-29.
    const [skipped, after] = times('30 2 * * *', '2026-03-28T12:00:00Z', 'Europe/Berlin', 2)
    expect(Date.parse(skipped ?? '')).toBeGreaterThanOrEqual(Date.parse('2026-03-29T01:00:00Z'))
    expect(Date.parse(skipped ?? '')).toBeLessThanOrEqual(Date.parse('2026-03-29T02:00:00Z'))
    expect(after).toBe('2026-03-30T00:30:00.000Z')
  })

  it('that a change of clocks repeats comes once for a daily job, and never less than hourly for an hourly one', () => {
    const daily = times('30 2 * * *', '2026-10-24T12:00:00Z', 'Europe/Berlin', 2)
    expect(daily.filter((time) => time.startsWith('2026-10-25'))).toHaveLength(1)
    const hourly = times('7 * * * *', '2026-10-24T23:00:00Z', 'Europe/Berlin', 4).map((time) => Date.parse(time))
    for (const [index, time] of hourly.entries()) if (index > 0) expect(time - (hourly[index - 1] ?? 0)).toBe(3_600_000)
  })

  it('is of the zone that is said', () => {
    expect(times('0 3 * * *', '2026-01-10T00:00:00Z', 'Asia/Kolkata', 1)).toEqual(['2026-01-10T21:30:00.000Z'])
    expect(zoneFault('Europe/Berlin')).toBeUndefined()
    expect(zoneFault('Europe/Nowhere')).toMatch(/no time zone/)
  })
})

describe('spreading', () => {
  it('is always the same for a machine, within what was said, and no expression loses or gains a run', () => {
    const names = Array.from({ length: 200 }, (_, i) => `machine${i}`)
    for (const [text, most] of [
      ['0 3 * * *', 15],
      ['50 3 * * *', 60],
      ['7 * * * *', 60],
      ['*/15 * * * *', 60],
      ['0,30 8-18 * * 1-5', 20],
    ] as const) {
      const spread = names.map((name) => spreadExpression(text, name, most))
      expect(spread).toEqual(names.map((name) => spreadExpression(text, name, most)))
      expect(new Set(spread).size).toBeGreaterThan(4)
      const before = parseFields(text)
      for (const moved of spread) {
        const after = parseFields(moved)
        expect(after.minutes).toHaveLength(before.minutes.length)
        expect({ ...after, minutes: [] }).toEqual({ ...before, minutes: [] })
        if (before.hours.length < 24) {
          after.minutes.forEach((minute, i) => {
            expect(minute - (before.minutes[i] ?? 0)).toBeGreaterThanOrEqual(0)
            expect(minute - (before.minutes[i] ?? 0)).toBeLessThan(most)
          })
        }
      }
    }
    expect(spreadExpression('0 3 * * *', 'web01', 0)).toBe('0 3 * * *')
    expect(spreadExpression('59 3 * * *', 'web01', 60)).toBe('59 3 * * *')
    expect(spreadExpression('* * * * *', 'web01', 60)).toBe('* * * * *')
  })
})

describe('for systemd', () => {
  it.each([
    ['0 3 * * *', undefined, ['*-*-* 03:00:00']],
    ['*/20 * * * *', undefined, ['*-*-* *:00,20,40:00']],
    ['5 4 1,15 jan *', 'Europe/Berlin', ['*-01-01,15 04:05:00 Europe/Berlin']],
    ['0 22 * * 1-5', undefined, ['Mon,Tue,Wed,Thu,Fri *-*-* 22:00:00']],
    ['0 22 1 * 7', undefined, ['*-*-01 22:00:00', 'Sun *-*-* 22:00:00']],
  ])('%s in %s is %j', (text, zone, expected) => {
    expect(onCalendar(text, zone)).toEqual(expected)
    const analyze = spawnSync('systemd-analyze', ['calendar', ...expected], { encoding: 'utf8' })
    if (analyze.error === undefined) expect(analyze.status, analyze.stderr).toBe(0)
  })
})
