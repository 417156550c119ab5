import type { Config } from '../config/config.js'
import type { RunKind } from '../model/run.js'
import type { WriteEnvironment } from '../operations/environment.js'
import type { RunReporter } from '../operations/runs/run-reporter.js'
import type { PruneRepository } from '../repository/repository.js'
import { type Context, findRepository, type GlobalOptions } from './context.js'
import { describeError } from './report-error.js'

/** What a command works with whose runs are remembered and told: see `RunReporter.run`. */
export interface Reported {
  readonly environment: WriteEnvironment
  readonly runs: RunReporter
  /** Undefined where `--repository` was given, or there is none. */
  readonly config: Config | undefined
}

/** What the repository is opened with, and what is told of runs on it. */
export interface ReportedRepository {
  readonly repository: PruneRepository
  readonly settings: Pick<Config, 'workers' | 'memoryBytes'>
  readonly config: Config | undefined
}

/**
 * Runs `action` with an environment, and a reporter for what it does on each machine:
 *
 *   await withReportedRuns(context, flags, 'prune', async ({ environment, runs }) => {
 *     for (const machine of machines) {
 *       await runs.run('prune', machine, async (notes) => {
 *         const { freedBytes } = await prune(environment, machine, { onWarning: notes.warn })
 *         notes.fact('freed_bytes', freedBytes)
 *       })
 *     }
 *   })
 *
 * What fails outside of any `run` (there is no repository) is told as a failure of `kind`, and thrown on.
 */
export async function withReportedRuns<Result>(
  context: Context,
  options: GlobalOptions,
  kind: RunKind,
  action: (reported: Reported) => Promise<Result>,
): Promise<Result> {
  return await withRunsOn(context, await findRepository(context, options), kind, action)
}

/** The same, for a repository that is known already. */
export async function withRunsOn<Result>(
  context: Context,
  { repository, settings, config }: ReportedRepository,
  kind: RunKind,
  action: (reported: Reported) => Promise<Result>,
): Promise<Result> {
  const services = await context.services()
  const runs = await services.buildRunReporter(repository, {
    config,
    command: context.command,
    onProblem: (message) => {
      context.output.note(`warning: ${message}`)
      context.output.event({ type: 'warning', message })
    },
    describeError: (error) => {
      const { code, message, hint } = describeError(error)
      return { code, message, hint: hint ?? null, cancelled: code === 'cancelled' || context.signal.aborted }
    },
  })
  try {
    const { workers, memoryBytes } = settings
    const limits = config?.limits
    // Threads that are started from here on are as nice as this one.
    const problems = limits === undefined ? [] : await services.lowerPriority(limits)
    for (const problem of problems) context.output.note(`warning: limits: ${problem}`)
    const { command } = context
    const environment = await services.buildEnvironment(repository, { workers, memoryBytes, command, limits })
    try {
      return await action({ environment, runs, config })
    } finally {
      await environment.pool[Symbol.asyncDispose]()
    }
  } catch (error) {
    await runs.failed(kind, error)
    throw error
  } finally {
    await runs.close()
  }
}
