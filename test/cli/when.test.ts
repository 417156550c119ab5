import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { formatTime } from '../../src/cli/format.js'
import { parseWhen } from '../../src/cli/when.js'

const zone = process.env['TZ']

function inZone(name: string): void {
  beforeEach(() => {
    process.env['TZ'] = name
  })
  afterEach(() => {
    if (zone === undefined) delete process.env['TZ']
    else process.env['TZ'] = zone
  })
}

function timeOf(text: string): string {
  const when = parseWhen(text)
  if (when.kind !== 'time') throw new Error(`read as ${when.kind}`)
  return when.time.toISOString()
}

describe('--at in Berlin', () => {
  inZone('Europe/Berlin')

  test('latest and points', () => {
    expect(parseWhen('latest')).toEqual({ kind: 'latest' })
    expect(parseWhen(' Latest ')).toEqual({ kind: 'latest' })
    expect(parseWhen('42')).toEqual({ kind: 'point', point: 42 })
    expect(parseWhen('#42')).toEqual({ kind: 'point', point: 42 })
  })

  test.each([
    ['2026-01-31', '2026-01-31T22:59:59.999Z'],
    ['2026-01-31T03:00', '2026-01-31T02:00:00.000Z'],
    ['2026-01-31 03:00', '2026-01-31T02:00:00.000Z'],
    ['2026-01-31T03:00:12', '2026-01-31T02:00:12.999Z'],
    ['2026-01-31T03:00:12.5', '2026-01-31T02:00:12.500Z'],
    ['2026-01-31T03:00:12.345678Z', '2026-01-31T03:00:12.345Z'],
    ['2026-01-31T03:00Z', '2026-01-31T03:00:00.000Z'],
    ['2026-01-31T03:00-05:30', '2026-01-31T08:30:00.000Z'],
    ['2026-01-31T03:00+0100', '2026-01-31T02:00:00.000Z'],
    ['2026-01-31T03:00 +01', '2026-01-31T02:00:00.000Z'],
    ['2026-01-31Z', '2026-01-31T23:59:59.999Z'],
    ['2024-02-29', '2024-02-29T22:59:59.999Z'],
    ['2026-12-31', '2026-12-31T22:59:59.999Z'],
    // Days of 23 and of 25 hours.
    ['2026-03-29', '2026-03-29T21:59:59.999Z'],
    ['2026-10-25', '2026-10-25T22:59:59.999Z'],
    ['2026-03-29T01:59', '2026-03-29T00:59:00.000Z'],
    ['2026-03-29T03:00', '2026-03-29T01:00:00.000Z'],
    ['2026-10-25T01:59', '2026-10-24T23:59:00.000Z'],
    ['2026-10-25T03:00', '2026-10-25T02:00:00.000Z'],
    ['2026-10-25T02:30+01:00', '2026-10-25T01:30:00.000Z'],
  ])('%s is %s', (text, expected) => {
    expect(timeOf(text)).toBe(expected)
  })

  test('a time that a change of clocks skips is refused', () => {
    expect(() => parseWhen('2026-03-29T02:30')).toThrow(/there was no such time here/)
  })

  test('a time that was twice is refused with both, and each of them can be said', () => {
    let hint = ''
    try {
      parseWhen('2026-10-25T02:30')
    } catch (error) {
      hint = String(error instanceof Error && 'hint' in error ? error.hint : '')
    }
    const both = [...hint.matchAll(/"([^"]+)"/g)].map((match) => timeOf(match[1] ?? ''))
    expect(both).toEqual(['2026-10-25T00:30:00.999Z', '2026-10-25T01:30:00.999Z'])
  })

  test('what is listed can be said, and finds the point though its fraction is not shown', () => {
    for (const time of ['2026-01-31T02:00:12.345Z', '2026-10-25T00:30:00.000Z', '2026-10-25T01:30:00.999Z']) {
      const read = timeOf(formatTime(time))
      expect(read >= time && read.slice(0, 19) === time.slice(0, 19)).toBe(true)
    }
  })

  test.each(['', 'yesterday', '#', '#0', '0', '-1', '1.5', '2026-13-01', '2026-02-30', '2026-1-1', '2026-01-31T24:00',
    '2026-01-31T03:60', '2026-01-31T03', '2026-01-31T03:00+25:00', '0001-01-01', '12345678901'])(
    '"%s" is refused with what can be said',
    (text) => {
      expect(() => parseWhen(text)).toThrow(expect.objectContaining({
        code: 'usage',
        hint: expect.stringContaining('2026-01-31T03:00'),
      }))
    },
  )
})

describe('--at where the clocks change at midnight', () => {
  inZone('America/Havana')

  test('a day ends where the next begins, even if that has no midnight', () => {
    expect(timeOf('2026-03-07')).toBe('2026-03-08T04:59:59.999Z')
    expect(() => parseWhen('2026-03-08T00:30')).toThrow('no such time')
    expect(timeOf('2026-03-08')).toBe('2026-03-09T03:59:59.999Z')
    expect(timeOf('2026-10-31')).toBe('2026-11-01T03:59:59.999Z')
  })
})

describe('--at where the clocks change by half an hour', () => {
  inZone('Australia/Lord_Howe')

  test('only the half hour is repeated', () => {
    expect(() => parseWhen('2026-04-05T01:45')).toThrow('two such times')
    expect(timeOf('2026-04-05T02:00')).toBe('2026-04-04T15:30:00.000Z')
    expect(timeOf('2026-04-05T01:29')).toBe('2026-04-04T14:29:00.000Z')
  })
})

describe('times as listed', () => {
  inZone('UTC')

  test('have an offset in UTC too', () => {
    expect(formatTime('2026-01-31T02:00:12.345Z')).toBe('2026-01-31 02:00:12 +00:00')
    expect(timeOf(formatTime('2026-01-31T02:00:12.345Z'))).toBe('2026-01-31T02:00:12.999Z')
  })
})
