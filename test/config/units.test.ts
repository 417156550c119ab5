import { expect, test } from 'vitest'
import { parseDuration, parseSize } from '../../src/config/units.js'

test.each([
  ['0', 0], [4096, 4096], ['64KiB', 65536], ['64 KiB', 65536], ['1k', 1024], ['1K', 1024], ['256MiB', 268435456],
  ['1G', 2 ** 30], ['1.5GiB', 1.5 * 2 ** 30], ['1GB', 1e9], ['10tib', 10 * 2 ** 40], [' 1 M ', 2 ** 20], ['7B', 7],
])('size %s is %d bytes', (text, bytes) => {
  expect(parseSize(text)).toBe(bytes)
})

test.each(['', 'M', '-1M', '1.0001K', '1e3', '1 MiB/s', '1,5G', '99999P', '0x10', Number.NaN, -5, 1.5])(
  'size %s is none',
  (text) => {
    expect(parseSize(text)).toBeUndefined()
  },
)

test.each([
  ['500ms', 500], ['5s', 5000], ['30m', 1_800_000], ['30 min', 1_800_000], ['2h', 7_200_000], ['1d', 86_400_000],
])('duration %s is %d ms', (text, milliseconds) => {
  expect(parseDuration(text)).toBe(milliseconds)
})

test.each(['5', '', 's', '-5s', '5 weeks', '0.0001ms'])('duration "%s" is none', (text) => {
  expect(parseDuration(text)).toBeUndefined()
})
