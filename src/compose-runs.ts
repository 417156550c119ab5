/*
 * The composition root of what is told of runs: notifiers are programs, metrics a file, and what is remembered is in
 * the repository.
 */
import PQueue from 'p-queue'
import type { Config, Notifier } from './config/config.js'
import { writeAtomically } from './files/write-atomically.js'
import type { RunRecord } from './model/run.js'
import { metricsText } from './operations/runs/metrics-text.js'
import { notificationDocument } from './operations/runs/notification-document.js'
import { createRunReporter, type RunNotification, type RunReporter, type RunSinks } from './operations/runs/run-reporter.js'
import { runProgram } from './programs/run-program.js'
import type { PruneRepository } from './repository/repository.js'
import { readRunRecords } from './repository/run-record.js'

export interface ReporterSettings {
  /** Undefined where there is none: then runs are remembered, and nobody is told. */
  readonly config: Pick<Config, 'notifiers' | 'metricsFile' | 'machines'> | undefined
  readonly command: string
  readonly version: string
  readonly onProblem: RunSinks['onProblem']
  readonly describeError: RunSinks['describeError']
}

/** Tells of runs as the configuration says. */
export function buildRunReporter(repository: PruneRepository, settings: ReporterSettings): RunReporter {
  const { config, command, onProblem, describeError } = settings
  return createRunReporter(repository, command, {
    async notify(notification) {
      const wanted = (config?.notifiers ?? []).filter(({ on }) => on.includes(notification.event))
      const told = await Promise.all(wanted.map((notifier) => notifyOne(notifier, notification, repository)))
      const failures = told.filter((failure) => failure !== undefined)
      if (failures.length > 0) throw new Error(failures.join('; '))
    },
    async publish() {
      if (config?.metricsFile === undefined) return
      const records = await allRecords(repository, config.machines.map(({ name }) => name), onProblem)
      const room = await repository.room()
      await writeAtomically(config.metricsFile, metricsText(records, { version: settings.version, room }))
    },
    onProblem,
    describeError,
  })
}

/** Why it could not be told; undefined when it was. */
async function notifyOne(
  { command, timeoutMs }: Notifier,
  notification: RunNotification,
  { description }: PruneRepository,
): Promise<string | undefined> {
  const { event, kind, machine, message } = notification
  const { ok, how, output } = await runProgram({
    command,
    env: { REFPOINT_EVENT: event, REFPOINT_RUN: kind, REFPOINT_MACHINE: machine ?? '', REFPOINT_MESSAGE: message },
    stdin: `${JSON.stringify(notificationDocument(notification, { repository: description }), null, 2)}\n`,
    timeoutMs,
  })
  return ok ? undefined : `${command[0]} ${how}${output === '' ? '' : `: ${output}`}`
}

async function allRecords(
  repository: PruneRepository,
  machines: readonly string[],
  onProblem: (message: string) => void,
): Promise<readonly RunRecord[]> {
  const queue = new PQueue({ concurrency: 16 })
  const found = await queue.addAll(machines.map((machine) => () => readRunRecords(repository, machine)))
  for (const problem of found.flatMap(({ problems }) => problems)) onProblem(problem)
  return found.flatMap(({ records }) => records)
}
