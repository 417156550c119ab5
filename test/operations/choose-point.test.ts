import { describe, expect, it } from 'vitest'
import { choosePoint } from '../../src/operations/points.js'
import { aPoint } from '../model/manifests.js'

function history(...times: string[]) {
  return { machine: 'web01', problems: [], points: times.map((time, i) => aPoint({ point: i + 1, time })) }
}

describe('choosePoint', () => {
  const ordinary = history('2026-01-01T00:00:00.000Z', '2026-01-02T00:00:00.000Z', '2026-01-03T00:00:00.000Z')
  // The clock was put back a day and a half between #2 and #3.
  const back = history(
    '2026-01-01T00:00:00.000Z',
    '2026-01-03T00:00:00.000Z',
    '2026-01-01T12:00:00.000Z',
    '2026-01-02T12:00:00.000Z',
  )

  it.each([
    ['the newest', ordinary, { kind: 'latest' }, 3],
    ['a numbered one', ordinary, { kind: 'point', point: 2 }, 2],
    ['the one at a time', ordinary, { kind: 'time', time: new Date('2026-01-02T00:00:00.000Z') }, 2],
    ['the one before a time', ordinary, { kind: 'time', time: new Date('2026-01-02T23:59:59.999Z') }, 2],
    ['the newest slot after the clock went back', back, { kind: 'latest' }, 4],
    [
      'the newest instant up to a time, though its slot is later',
      back,
      { kind: 'time', time: new Date('2026-01-02T18:00:00.000Z') },
      4,
    ],
    [
      'a slot that is earlier but whose instant is later',
      back,
      { kind: 'time', time: new Date('2026-01-04T00:00:00.000Z') },
      2,
    ],
  ] as const)('finds %s', (_name, points, when, expected) => {
    expect(choosePoint(points, when).point).toBe(expected)
  })

  it('takes the later slot of two points with one instant', () => {
    const twice = history('2026-01-01T00:00:00.000Z', '2026-01-01T00:00:00.000Z')
    expect(choosePoint(twice, { kind: 'time', time: new Date('2026-01-01T00:00:00.000Z') }).point).toBe(2)
  })

  it.each([
    ['no point of that number', ordinary, { kind: 'point', point: 9 }, 'no point #9'],
    [
      'nothing before that time',
      ordinary,
      { kind: 'time', time: new Date('2025-01-01T00:00:00.000Z') },
      'no point at or before',
    ],
    ['no points at all', history(), { kind: 'latest' }, 'has no points'],
  ] as const)('says when there is %s', (_name, points, when, message) => {
    expect(() => choosePoint(points, when)).toThrow(
      expect.objectContaining({ code: 'usage', message: expect.stringContaining(message) }),
    )
  })
})
