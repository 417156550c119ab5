import { stripVTControlCharacters } from 'node:util'
import { describe, expect, test } from 'vitest'
import { formatBytes, formatDuration, formatRate } from '../../src/cli/format.js'
import { createProgressBoard, formatProgress } from '../../src/cli/progress.js'
import { Rate } from '../../src/cli/rate.js'
import { formatTable } from '../../src/cli/table.js'
import { capture } from './captured.js'

describe('numbers for people', () => {
  test.each([[0, '0 B'], [1023, '1023 B'], [65536, '64 KiB'], [1.5 * 2 ** 30, '1.5 GiB'], [10 * 2 ** 40, '10 TiB']])(
    '%d bytes is %s',
    (bytes, text) => {
      expect(formatBytes(bytes)).toBe(text)
    },
  )

  test.each([
    [0, '0.0 s'], [440, '0.4 s'], [9940, '9.9 s'], [9960, '10 s'], [59_400, '59 s'], [59_600, '1 min 00 s'],
    [185_000, '3 min 05 s'], [3_599_600, '1 h 00 min'], [7_800_000, '2 h 10 min'], [100_800_000, '1 d 04 h'],
    [-5, '0.0 s'],
  ])('%d ms is %s', (milliseconds, text) => {
    expect(formatDuration(milliseconds)).toBe(text)
  })

  test('a rate has its unit', () => {
    expect(formatRate(210 * 2 ** 20)).toBe('210 MiB/s')
  })
})

test('a table has titles, aligned columns and nothing else', () => {
  const columns = [{ title: 'point', align: 'right' }, { title: 'kind' }, { title: 'stored', align: 'right' }] as const
  const lines = formatTable(columns, [['1', 'full', '1.2 GiB'], ['42', 'incremental', '3 MiB']])
  expect(lines).toEqual([
    'point  kind          stored',
    '    1  full         1.2 GiB',
    '   42  incremental    3 MiB',
  ])
  expect(formatTable(columns, [])).toEqual([])
})

describe('a rate', () => {
  test('is that of the last seconds, not of everything', () => {
    const rate = new Rate(0, 10_000)
    expect(rate.bytesPerSecond()).toBeUndefined()
    for (let second = 1; second <= 100; second++) rate.sample(second * 100, second * 1000)
    for (let second = 101; second <= 120; second++) rate.sample(10_000 + (second - 100) * 1000, second * 1000)
    expect(rate.bytesPerSecond()).toBeCloseTo(1000)
    expect(rate.remainingMs(5000)).toBeCloseTo(5000)
  })

  test('tells no remaining time while nothing moves', () => {
    const rate = new Rate(0, 1000)
    rate.sample(100, 1000)
    rate.sample(100, 2500)
    rate.sample(100, 4000)
    expect(rate.remainingMs(100)).toBeUndefined()
  })

  test('keeps few samples however often it is told', () => {
    const rate = new Rate(0, 10_000)
    for (let i = 1; i <= 1_000_000; i++) rate.sample(i, i / 10)
    expect(rate.bytesPerSecond()).toBeCloseTo(10_000, -2)
    expect(JSON.stringify(rate).length).toBeLessThan(100)
  })
})

describe('output', () => {
  test('as text: what was asked for on stdout, notes on stderr', () => {
    const { output, stdout, stderr } = capture()
    output.line('result')
    output.note('by the way')
    output.event({ type: 'step' })
    output.result({ machine: 'web01' })
    expect([stdout(), stderr()]).toEqual(['result\n', 'by the way\n'])
  })

  test('as JSON: one document on stdout, events as lines on stderr', () => {
    const { output, stdout, stderr } = capture({ json: true })
    output.line('result')
    output.note('by the way')
    output.event({ type: 'step', at: 1n })
    output.event({ type: 'step', names: new Set(['a']) })
    output.result({ machines: new Map([['web01', 1]]) })
    expect(JSON.parse(stdout())).toEqual({ machines: { web01: 1 } })
    expect(stderr().trim().split('\n').map((line): unknown => JSON.parse(line))).toEqual([
      { type: 'step', at: '1' }, { type: 'step', names: ['a'] },
    ])
  })
})

describe('progress', () => {
  test('is silent where nobody looks', async () => {
    const { output, stderr } = capture()
    const board = await createProgressBoard(output)
    const progress = board.start('web01')
    progress.total(100)
    progress.advance(50)
    progress.phase('reading')
    progress.done()
    board.stop()
    expect(stderr()).toBe('')
  })

  test('is told to programs at most once a second', async () => {
    const { output, stderr } = capture({ json: true })
    let clock = 0
    const board = await createProgressBoard(output, () => clock)
    const progress = board.start('web01')
    progress.total(1000)
    for (clock = 0; clock < 3000; clock += 10) progress.advance(1)
    progress.done()
    board.stop()
    const events = stderr().trim().split('\n').map((line): unknown => JSON.parse(line))
    expect(events).toHaveLength(4)
    expect(events.at(-1)).toEqual({
      type: 'progress',
      name: 'web01',
      phase: '',
      doneBytes: 300,
      totalBytes: 1000,
      bytesPerSecond: 100,
      remainingMs: 6977,
    })
  })

  test('is drawn on a terminal for several at once, notes above it, and taken away at the end', async () => {
    const { output, stderr } = capture({ terminal: true })
    const board = await createProgressBoard(output)
    try {
      const [web, nas] = [board.start('web01'), board.start('nas')]
      web.total(1000)
      web.advance(500)
      nas.phase('waiting for the lock')
      await expect.poll(() => stripVTControlCharacters(stderr())).toContain('50%')
      expect(stripVTControlCharacters(stderr())).toContain('waiting for the lock')
      output.note('web01: a warning')
      web.done()
      nas.done()
    } finally {
      board.stop()
      board.stop()
    }
    expect(stripVTControlCharacters(stderr())).toContain('web01: a warning\n')
    expect(stderr()).toContain('\u001B[')
    output.note('after')
    expect(stderr().endsWith('after\n')).toBe(true)
  })

  test('fits the width of the terminal', () => {
    const rate = new Rate(0)
    rate.sample(2 ** 30, 10_000)
    const state = { label: 'web01', phase: 'reading', done: 2 ** 30, total: 4 * 2 ** 30, rate }
    expect(formatProgress(state, 120)).toBe(
      'web01         [=====               ]   25%  1 GiB of 4 GiB  102 MiB/s  30 s left  reading',
    )
    expect(formatProgress(state, 40)).toHaveLength(39)
  })
})
