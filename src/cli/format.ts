import { formatISO } from 'date-fns/formatISO'
import prettyBytes from 'pretty-bytes'

/** Bytes for people, in binary units: `1.5 GiB`. */
export function formatBytes(bytes: number): string {
  return prettyBytes(bytes, { binary: true })
}

/** Bytes per second for people: `210 MiB/s`. */
export function formatRate(bytesPerSecond: number): string {
  return `${formatBytes(Math.round(bytesPerSecond))}/s`
}

/** Milliseconds for people, in two units at most: `0.4 s`, `12 s`, `3 min 05 s`, `2 h 10 min`, `1 d 04 h`. */
export function formatDuration(milliseconds: number): string {
  const seconds = Math.max(0, milliseconds) / 1000
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`
  const whole = Math.round(seconds)
  if (whole < 60) return `${whole} s`
  if (whole < 3600) return pair(whole, 60, 'min', 1, 's')
  const minutes = Math.round(whole / 60)
  if (minutes < 24 * 60) return pair(minutes, 60, 'h', 1, 'min')
  return pair(Math.round(minutes / 60), 24, 'd', 1, 'h')
}

function pair(value: number, large: number, largeName: string, small: number, smallName: string): string {
  const rest = Math.floor((value % large) / small)
  return `${Math.floor(value / large)} ${largeName} ${String(rest).padStart(2, '0')} ${smallName}`
}

/**
 * A time in the user's zone, with its offset, so that the hour that a change of clocks repeats is told apart too:
 * `2026-01-31 03:00:00 +01:00`. What it prints, `--at` reads.
 */
export function formatTime(time: Date | string): string {
  const [date, clock = ''] = formatISO(time).split('T')
  return `${date} ${clock.replace(/Z$/, '+00:00').replace(/(?=[+-])/, ' ')}`
}
