import { Cron } from 'croner'
import { parseFields } from './fields.js'

/** Why a crontab's expression is none, in plain words; undefined when it is one, and has a time to come. */
export function faultOf(expression: string): string | undefined {
  try {
    parseFields(expression)
    if (new Cron(expression, { paused: true }).nextRun() === null) return 'it never comes'
    return undefined
  } catch (error) {
    return error instanceof Error ? error.message.replace(/^CronPattern: /, '') : String(error)
  }
}

/** Why a time zone is none; undefined when it is one. */
export function zoneFault(zone: string): string | undefined {
  try {
    new Intl.DateTimeFormat('en', { timeZone: zone })
    return undefined
  } catch {
    return 'no time zone of this system'
  }
}

/** The zone of this host. */
export function systemZone(): string {
  return new Intl.DateTimeFormat().resolvedOptions().timeZone
}

/**
 * The first time after `after` at which a job of this expression starts, by the clocks of a zone. A time that a change
 * of clocks skips comes as soon as the clocks have moved on; one that it repeats comes once.
 */
export function nextTime(expression: string, after: Date, zone: string): Date {
  const next = new Cron(expression, { paused: true, timezone: zone }).nextRun(after)
  if (next === null) throw new RangeError(`"${expression}" never comes`)
  return next
}
