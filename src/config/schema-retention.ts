import * as z from 'zod'
import { keepRuleNames } from '../model/retention.js'

const dayMs = 86_400_000
const countMessage = 'a whole number from 0 to 100000'
const count = z.int(countMessage).min(0, countMessage).max(100_000, countMessage).optional()

const zone = z.string('a time zone').refine(isZone, 'a time zone such as Europe/Berlin or UTC')

/** Which points stay. Rules that are not there keep nothing; all of them together must keep something. */
export const keepSchema = z
  .strictObject(
    { last: count, hourly: count, daily: count, weekly: count, monthly: count, yearly: count, zone: zone.optional() },
    'rules, such as { daily: 14, weekly: 8 }',
  )
  .refine((keep) => keepRuleNames.some((rule) => (keep[rule] ?? 0) > 0), 'at least one rule that keeps something')

const fullExamples = '"never", or "every 90 days" ("every 12 weeks")'

/** After how many milliseconds all is stored anew; null for never. */
export const fullSchema = z.string(fullExamples).transform((text, context): number | null => {
  if (text.trim() === 'never') return null
  const [, number, unit] = /^every\s+(\d{1,4})\s+(day|week)s?$/.exec(text.trim()) ?? []
  const days = Number(number ?? 0) * (unit === 'week' ? 7 : 1)
  if (days > 0) return days * dayMs
  context.addIssue({ code: 'custom', message: fullExamples })
  return z.NEVER
})

function isZone(name: string): boolean {
  try {
    new Intl.DateTimeFormat('en', { timeZone: name })
    return true
  } catch {
    return false
  }
}
