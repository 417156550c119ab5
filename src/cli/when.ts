import { RefpointError } from '../model/errors.js'
import type { When } from '../operations/points.js'
import { formatTime } from './format.js'

const pattern =
  /^(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?)?\s*(Z|[+-]\d\d(?::?\d\d)?)?$/i

/**
 * Reads `--at`: `latest`, `42` or `#42`, a date, or a date with a time, local unless it has a zone. A date means to the
 * end of that day, and a time in seconds to the end of that second, because that is how points are listed.
 * @throws RefpointError `usage` for anything else, and for a local time that a change of clocks skips or repeats.
 */
export function parseWhen(text: string): When {
  const wanted = text.trim()
  if (wanted.toLowerCase() === 'latest') return { kind: 'latest' }
  const point = /^#?(\d{1,9})$/.exec(wanted)?.[1]
  if (point !== undefined) return parsePoint(Number(point), text)
  const match = pattern.exec(wanted)
  if (match === null) throw misread(text, 'is no point and no time')
  const [, year = '', month = '', day = '', hour, minute = '', second, fraction, zone] = match
  const date = [Number(year), Number(month) - 1, Number(day)] as const
  const calendar = new Date(Date.UTC(...date))
  if (date[0] < 1970) throw misread(text, 'was before any backup')
  if (calendar.getUTCMonth() !== date[1] || calendar.getUTCDate() !== date[2]) throw misread(text, 'is no day')
  if (hour === undefined) return { kind: 'time', time: endOfDay(date, zone) }
  // A second that is said without its fraction, as it is listed, stands for all of it.
  const milliseconds = second === undefined ? 0 : Number((fraction ?? '999').padEnd(3, '0').slice(0, 3))
  const clock = [Number(hour), Number(minute), Number(second ?? 0), milliseconds] as const
  if (clock[0] > 23 || clock[1] > 59 || clock[2] > 59) throw misread(text, 'is no time of day')
  if (zone !== undefined) return { kind: 'time', time: new Date(Date.UTC(...date, ...clock) - offsetOf(zone, text)) }
  return { kind: 'time', time: localTime(date, clock, text) }
}

type Day = readonly [year: number, month: number, day: number]
type Clock = readonly [hour: number, minute: number, second: number, millisecond: number]

function parsePoint(point: number, text: string): When {
  if (point < 1) throw misread(text, 'is no point: they are counted from 1')
  return { kind: 'point', point }
}

function endOfDay([year, month, day]: Day, zone: string | undefined): Date {
  if (zone === undefined) return new Date(new Date(year, month, day + 1).getTime() - 1)
  return new Date(Date.UTC(year, month, day + 1) - offsetOf(zone, zone) - 1)
}

function offsetOf(zone: string, text: string): number {
  if (zone.toUpperCase() === 'Z') return 0
  const [hours, minutes] = [Number(zone.slice(1, 3)), Number(zone.slice(3).replace(':', ''))]
  if (hours > 14 || minutes > 59) throw misread(text, 'has no such zone')
  return (zone.startsWith('-') ? -1 : 1) * (hours * 60 + minutes) * 60_000
}

/** Clocks that are put forward skip an hour, and put back have it twice: neither is guessed at. */
function localTime(day: Day, clock: Clock, text: string): Date {
  const time = new Date(...day, ...clock)
  if (time.getHours() !== clock[0] || time.getMinutes() !== clock[1]) {
    throw new RefpointError('usage', `--at ${text}: there was no such time here, the clocks were put forward`, {
      hint: `The next local time was ${formatTime(time)}.`,
    })
  }
  const offsets = [-1, 1].map((direction) => new Date(time.getTime() + direction * 86_400_000).getTimezoneOffset())
  const twins = offsets
    .map((offset) => new Date(Date.UTC(...day, ...clock) + offset * 60_000))
    .filter((twin) => twin.getHours() === clock[0] && twin.getMinutes() === clock[1])
  const [first, second] = [...new Set(twins.map((twin) => twin.getTime()))].toSorted((a, b) => a - b)
  if (first !== undefined && second !== undefined) {
    throw new RefpointError('usage', `--at ${text}: there were two such times here, the clocks were put back`, {
      hint: `Say which: "${formatTime(new Date(first))}" or "${formatTime(new Date(second))}".`,
    })
  }
  return time
}

function misread(text: string, why: string): RefpointError {
  return new RefpointError('usage', `--at ${text}: "${text}" ${why}`, {
    hint: 'Say latest, a point such as 42 or "#42", a day such as 2026-01-31, or a time such as 2026-01-31T03:00.',
    fields: { at: text },
  })
}
