import type { Config } from '../config/config.js'
import { RefpointError } from '../model/errors.js'

/** A command that is to run at certain times. */
export interface ScheduledJob {
  /** For unit files: `backup@web01`, `verify`. */
  readonly unit: string
  readonly expression: string
  /** What refpoint is told, beside the configuration. */
  readonly args: readonly string[]
}

/** Everything that the configuration has a schedule for. @throws RefpointError `config` when that is nothing. */
export function scheduledJobs(config: Config): readonly ScheduledJob[] {
  const jobs: ScheduledJob[] = config.machines.flatMap(({ name, schedule }) =>
    schedule === undefined
      ? []
      : [{ unit: `backup@${name}`, expression: schedule, args: ['backup', name, '--quiet-if-running'] }],
  )
  const { verify, prune } = config
  if (verify.schedule !== undefined) {
    const budget = verify.budgetMs === undefined ? [] : ['--budget', `${verify.budgetMs / 1000}s`]
    jobs.push({ unit: 'verify', expression: verify.schedule, args: ['verify', '--all', ...budget] })
  }
  if (prune.schedule !== undefined) jobs.push({ unit: 'prune', expression: prune.schedule, args: ['prune', '--quiet-if-running'] })
  if (jobs.length > 0) return jobs
  throw new RefpointError('config', `${config.file} has no schedule`, {
    hint: 'Give it one: defaults: { schedule: "0 3 * * *" }, or a schedule of a machine, of verify or of prune.',
    fields: { file: config.file },
  })
}
