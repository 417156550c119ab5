import { createHash } from 'node:crypto'
import { parseFields } from './fields.js'

/**
 * The expression with its minutes moved on by an offset that is a machine's own: always the same, whatever other
 * machines there are. It stays within the hour that was said, and before the next of several minutes.
 * @param most minutes, at most 60.
 */
export function spreadExpression(expression: string, machine: string, most: number): string {
  const { minutes, hours } = parseFields(expression)
  const [first = 0] = minutes
  const last = minutes.at(-1) ?? 0
  // Each hour has its own runs: what moves past the end of one is the next one's.
  const everyHour = hours.length === 24
  const gaps = minutes.map((minute, i) => (minutes[i + 1] ?? (everyHour ? first + 60 : 60)) - minute)
  const room = Math.min(most, everyHour ? 60 : 60 - last, ...gaps)
  const offset = room < 2 ? 0 : offsetOf(machine) % room
  if (offset === 0) return expression
  const moved = minutes.map((minute) => (minute + offset) % 60).sort((a, b) => a - b)
  return [moved.join(','), ...expression.trim().split(/\s+/).slice(1)].join(' ')
}

function offsetOf(machine: string): number {
  return createHash('sha256').update(`refpoint schedule\n${machine}`).digest().readUInt32BE(0)
}
