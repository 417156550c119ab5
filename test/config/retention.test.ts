import { describe, expect, test } from 'vitest'
import { parseConfig } from '../../src/config/load-config.js'

const file = '/etc/refpoint/refpoint.yaml'

function parse(defaults: string, machine = ''): ReturnType<typeof parseConfig>['machines'][number] {
  const text = `
repository: /b
defaults: { ${defaults} }
machines:
  web01: { tracker: disk, stores: { root: /r }${machine === '' ? '' : `, ${machine}`} }
`
  const [found] = parseConfig(text, file).machines
  if (found === undefined) throw new Error('no machine')
  return found
}

describe('rules for which points to keep', () => {
  test('are the defaults, or a machine’s own as a whole', () => {
    expect(parse('keep: { last: 7, daily: 14 }').keep).toEqual({
      rules: { last: 7, hourly: 0, daily: 14, weekly: 0, monthly: 0, yearly: 0 },
      zone: undefined,
    })
    expect(parse('keep: { last: 7, daily: 14 }', 'keep: { weekly: 8, zone: Europe/Berlin }').keep).toEqual({
      rules: { last: 0, hourly: 0, daily: 0, weekly: 8, monthly: 0, yearly: 0 },
      zone: 'Europe/Berlin',
    })
    expect(parse('').keep).toBeUndefined()
  })

  test.each([
    ['keep: {}', 'at least one rule that keeps something'],
    ['keep: { daily: 0 }', 'at least one rule that keeps something'],
    ['keep: { daily: -1 }', 'a whole number from 0 to 100000'],
    ['keep: { daily: 1.5 }', 'a whole number from 0 to 100000'],
    ['keep: { dayly: 1 }', 'did you mean "daily"'],
    ['keep: { daily: 1, zone: Mars/Olympus }', 'a time zone such as Europe/Berlin or UTC'],
    ['keep: 7', 'rules, such as'],
  ])('are refused as %s', (defaults, message) => {
    expect(() => parse(defaults)).toThrow(message)
  })
})

describe('how often all is stored anew', () => {
  test.each([
    ['', '', undefined],
    ['full: never', '', undefined],
    ['full: every 90 days', '', 90 * 86_400_000],
    ['full: every 1 day', '', 86_400_000],
    ['full: every 2 weeks', '', 14 * 86_400_000],
    ['full: every 90 days', 'full: never', undefined],
    ['full: never', 'full: every 7 days', 7 * 86_400_000],
  ])('%s, of a machine %s', (defaults, machine, milliseconds) => {
    expect(parse(defaults, machine).fullEveryMs).toBe(milliseconds)
  })

  test.each(['full: 90', 'full: 90 days', 'full: every 0 days', 'full: every 3 months', 'full: always'])(
    'is refused as %s',
    (defaults) => {
      expect(() => parse(defaults)).toThrow('"never", or "every 90 days"')
    },
  )
})
