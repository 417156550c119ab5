import * as z from 'zod'
import { faultOf, zoneFault } from '../schedule/expression.js'
import { duration } from './schema-values.js'

const expected = 'five fields of a crontab, such as "0 3 * * *"'

/** Minute, hour, day, month and weekday, as in a crontab. */
export const schedule = z.string(expected).superRefine((value, context) => {
  const fault = faultOf(value)
  if (fault !== undefined) context.addIssue({ code: 'custom', message: `${expected} (${fault})` })
})

/** How far machines with one default schedule are spread. */
export const spread = duration.refine((time) => time <= 3600e3, 'at most 1h')

export const zone = z.string('a time zone, such as Europe/Berlin').superRefine((value, context) => {
  const fault = zoneFault(value)
  if (fault !== undefined) context.addIssue({ code: 'custom', message: `a time zone, such as Europe/Berlin (${fault})` })
})

export const prune = z.strictObject({ schedule: schedule.optional() })

export const verify = z.strictObject({
  schedule: schedule.optional(),
  budget: duration.refine((time) => time >= 1000, 'at least 1s').optional(),
  within: duration.refine((time) => time >= 3600e3, 'at least 1h').optional(),
})
