import * as z from 'zod'
import { duration, integer, path, size } from './schema-values.js'

/** A program and its arguments; no shell looks at them unless it is the program. */
const program = z.array(z.string(), 'a program and its arguments, such as [/usr/local/bin/page-me]').min(1)

/** How long a program of the user's may take. */
const patience = duration.refine((time) => time >= 100 && time <= 24 * 3600e3, 'at least 100ms and at most 24h')

/** Who is told of runs, and of which. */
export const notify = z.array(
  z.strictObject({
    on: z
      .array(z.enum(['failure', 'warning', 'recovery'], '"failure", "warning" or "recovery"'), 'a list')
      .min(1, 'at least one of failure, warning and recovery'),
    run: program,
    timeout: patience.optional(),
  }),
  'a list of notifiers, such as [{ on: [failure], run: [/usr/local/bin/page-me] }]',
)

export const metrics = z.strictObject({ textfile: path.endsWith('.prom', 'a path that ends in ".prom"') })

/** What runs before and after each backup of a machine, while it is locked. */
export const hooks = z.strictObject({
  before: program.optional(),
  after: program.optional(),
  timeout: patience.optional(),
})

const perSecond = size.refine((bytes) => bytes >= 2 ** 20, 'at least 1MiB (in each second)')

/** What refpoint may take of the host. */
export const limits = z.strictObject({
  host: integer(1, 1024).optional(),
  repository: integer(1, 1024).optional(),
  device: integer(1, 1024).optional(),
  read: perSecond.optional(),
  write: perSecond.optional(),
  nice: integer(0, 19).optional(),
  ionice: z.enum(['idle', 'best-effort'], '"idle" or "best-effort"').optional(),
})
