import { hostname } from 'node:os'
import { RefpointError } from '../../model/errors.js'
import { afterRun, afterSkip, type RunError, type RunEvent, type RunKind, type RunOutcome } from '../../model/run.js'
import { readRunRecord, writeRunRecord } from '../../repository/run-record.js'
import type { WriteRepository } from '../../repository/repository.js'

/** What a run has to say beside its result. */
export interface RunNotes {
  /** Something that somebody should know, though the run did what it should. */
  warn(message: string): void
  /** A figure of the run, with its unit last in the name: `stored_bytes`. Becomes a metric `refpoint_<kind>_<name>`. */
  fact(name: string, value: number): void
}

/** What is told of a run to whoever wants to be notified. */
export interface RunNotification extends RunEvent {
  readonly outcome: RunOutcome | null
  /** How many runs failed in a row, this one included. */
  readonly failures: number
}

/** Where what is told goes. Failing is told through `onProblem`, and changes nothing of the run. */
export interface RunSinks {
  notify(notification: RunNotification): Promise<void>
  /** Called once, when the command ends and something ran. */
  publish(): Promise<void>
  /** Tells a person that a record, a notification or the metrics could not be written. */
  onProblem(message: string): void
  describeError(error: unknown): RunError & { readonly cancelled: boolean }
}

/** Tells how operations went: to the machine's run records, to notifiers and to the metrics. */
export interface RunReporter {
  /**
   * Runs one operation on one machine, and tells how it went. Its failure is thrown on as it is.
   * @param action a failure with the code `locked` counts as a run that found the machine in use.
   */
  run<Result>(kind: RunKind, machine: string, action: (notes: RunNotes) => Promise<Result>): Promise<Result>
  /**
   * Tells of a failure that no run told of: there is no repository, say. For what ends a command; errors that sum up
   * failures of runs are told already.
   */
  failed(kind: RunKind, error: unknown): Promise<void>
  /** How often in a row the machine was found locked, as of the last `run` that found it so in this command. */
  timesSkipped(machine: string): number
  /** Publishes the metrics. */
  close(): Promise<void>
}

const maxWarnings = 20
const maxTextLength = 2000

export function createRunReporter(repository: WriteRepository, command: string, sinks: RunSinks): RunReporter {
  return new Reporter(repository, command, sinks)
}

class Reporter implements RunReporter {
  readonly #repository: WriteRepository
  readonly #command: string
  readonly #sinks: RunSinks
  readonly #skipped = new Map<string, number>()
  #ran = false
  #failed = false

  constructor(repository: WriteRepository, command: string, sinks: RunSinks) {
    this.#repository = repository
    this.#command = command
    this.#sinks = sinks
  }

  async run<Result>(
    kind: RunKind,
    machine: string,
    action: (notes: RunNotes) => Promise<Result>,
  ): Promise<Result> {
    const startedAt = new Date().toISOString()
    const warnings: string[] = []
    const facts: Record<string, number> = {}
    const notes: RunNotes = {
      warn: (message) => void warnings.push(message),
      fact: (name, value) => void (facts[name] = value),
    }
    const tell = async (result: RunOutcome['result'], error: RunError | null): Promise<void> => {
      this.#ran = true
      await this.#tell({ kind, machine }, {
        result,
        startedAt,
        endedAt: new Date().toISOString(),
        host: hostname(),
        command: this.#command,
        error,
        warnings: bounded(warnings),
        facts,
      })
    }
    let result: Result
    try {
      result = await action(notes)
    } catch (error) {
      if (error instanceof RefpointError && error.code === 'locked') {
        await this.#tellSkipped({ kind, machine }, error.message)
        throw error
      }
      // A mistake on the command line is told to whoever made it.
      if (error instanceof RefpointError && error.code === 'usage') throw error
      const { cancelled, ...described } = this.#sinks.describeError(error)
      this.#failed = true
      await tell(cancelled ? 'cancelled' : 'failed', { ...described, message: cut(described.message) })
      throw error
    }
    await tell(warnings.length > 0 ? 'warning' : 'done', null)
    return result
  }

  async failed(kind: RunKind, error: unknown): Promise<void> {
    if (this.#failed || (error instanceof RefpointError && ['usage', 'locked'].includes(error.code))) return
    const { cancelled, message } = this.#sinks.describeError(error)
    if (cancelled) return
    this.#failed = true
    await this.#notify({ event: 'failure', kind, machine: null, message: cut(message), outcome: null, failures: 1 })
  }

  timesSkipped(machine: string): number {
    return this.#skipped.get(machine) ?? 0
  }

  async close(): Promise<void> {
    if (!this.#ran) return
    await this.#sinks.publish().catch((error: unknown) => this.#problem('the metrics could not be written', error))
  }

  async #tell(which: { readonly machine: string; readonly kind: RunKind }, outcome: RunOutcome): Promise<void> {
    const before = await this.#before(which)
    const { record, events } = afterRun(before, which, outcome)
    await this.#write(() => writeRunRecord(this.#repository, record), which)
    for (const event of events) await this.#notify({ ...event, outcome, failures: record.failures })
  }

  async #tellSkipped(which: { readonly machine: string; readonly kind: RunKind }, message: string): Promise<void> {
    this.#ran = true
    const { record, events } = afterSkip(await this.#before(which), which, { message, time: new Date().toISOString() })
    this.#skipped.set(which.machine, record.skipped)
    await this.#write(() => writeRunRecord(this.#repository, record), which)
    for (const event of events) await this.#notify({ ...event, outcome: null, failures: record.failures })
  }

  /** A record that can't be read is told, and written anew. */
  async #before({ machine, kind }: { readonly machine: string; readonly kind: RunKind }) {
    try {
      return await readRunRecord(this.#repository, machine, kind)
    } catch (error) {
      this.#problem(`how the last ${kind} of '${machine}' went can't be read`, error)
      return undefined
    }
  }

  async #write(
    write: () => Promise<void>,
    { machine, kind }: { readonly machine: string; readonly kind: RunKind },
  ): Promise<void> {
    await write().catch((error: unknown) => {
      this.#problem(`how this ${kind} of '${machine}' went could not be written down`, error)
    })
  }

  async #notify(notification: RunNotification): Promise<void> {
    await this.#sinks.notify(notification).catch((error: unknown) => {
      this.#problem('a notification could not be sent', error)
    })
  }

  #problem(what: string, error: unknown): void {
    this.#sinks.onProblem(`${what}: ${error instanceof Error ? error.message : String(error)}`)
  }
}

function bounded(warnings: readonly string[]): readonly string[] {
  const kept = warnings.slice(0, maxWarnings).map(cut)
  return warnings.length > maxWarnings ? [...kept, `and ${warnings.length - maxWarnings} more`] : kept
}

function cut(text: string): string {
  return text.length > maxTextLength ? `${text.slice(0, maxTextLength)} …` : text
}
