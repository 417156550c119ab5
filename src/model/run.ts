/** Operations on a machine of which is remembered how they went. */
export const runKinds = ['backup', 'prune', 'verify', 'audit', 'copy', 'salvage'] as const
export type RunKind = (typeof runKinds)[number]

export interface RunError {
  readonly code: string
  readonly message: string
  readonly hint: string | null
}

/** How one run went. */
export interface RunOutcome {
  /** `warning`: it did what it should, and said something that somebody should know. */
  readonly result: 'done' | 'warning' | 'failed' | 'cancelled'
  /** ISO 8601, UTC. */
  readonly startedAt: string
  readonly endedAt: string
  readonly host: string
  readonly command: string
  readonly error: RunError | null
  readonly warnings: readonly string[]
  /** Figures by their names, with the unit last: `stored_bytes`. */
  readonly facts: Readonly<Record<string, number>>
}

/** How the runs of one kind on one machine went. */
export interface RunRecord {
  readonly format: 1
  readonly machine: string
  readonly kind: RunKind
  /** The last run that came to an end; null when all so far found the machine locked. */
  readonly last: RunOutcome | null
  /** The last run that did what it should. */
  readonly lastDone: RunOutcome | null
  /** Runs that failed since then. */
  readonly failures: number
  /** Runs since `last` that found the machine locked by another, and when the first of them did. */
  readonly skipped: number
  readonly skippedSince: string | null
}

/** What somebody may want to be told of. */
export type RunEventKind = 'failure' | 'warning' | 'recovery'

export interface RunEvent {
  readonly event: RunEventKind
  readonly kind: RunKind
  /** Null where the run did not get as far as to a machine: there is no repository, say. */
  readonly machine: string | null
  readonly message: string
}

/** The record after one more run, and what is to be told of it. */
export function afterRun(
  before: RunRecord | undefined,
  which: { readonly machine: string; readonly kind: RunKind },
  outcome: RunOutcome,
): { readonly record: RunRecord; readonly events: readonly RunEvent[] } {
  const { machine, kind } = which
  const good = outcome.result === 'done' || outcome.result === 'warning'
  const failed = outcome.result === 'failed'
  const failures = before?.failures ?? 0
  const record: RunRecord = {
    format: 1,
    machine,
    kind,
    last: outcome,
    lastDone: good ? outcome : (before?.lastDone ?? null),
    failures: good ? 0 : failures + (failed ? 1 : 0),
    skipped: 0,
    skippedSince: null,
  }
  const events: RunEvent[] = []
  const tell = (event: RunEventKind, message: string): void => void events.push({ event, kind, machine, message })
  if (failed) tell('failure', outcome.error?.message ?? 'it failed')
  if (good && (failures > 0 || (before?.skipped ?? 0) > 1)) {
    const was = failures > 0 ? `failed ${times(failures)}` : `found the machine locked ${times(before?.skipped ?? 0)}`
    tell('recovery', `it is done; before that it ${was}`)
  }
  const known = new Set((before?.last?.warnings ?? []).map(withoutNumbers))
  const fresh = outcome.warnings.filter((warning) => !known.has(withoutNumbers(warning)))
  if (good && fresh.length > 0) tell('warning', fresh.join('; '))
  return { record, events }
}

/** The record after a run that found the machine locked: once is nothing, again is worth telling. */
export function afterSkip(
  before: RunRecord | undefined,
  which: { readonly machine: string; readonly kind: RunKind },
  { message, time }: { readonly message: string; readonly time: string },
): { readonly record: RunRecord; readonly events: readonly RunEvent[] } {
  const { machine, kind } = which
  const skipped = (before?.skipped ?? 0) + 1
  const record: RunRecord = {
    format: 1,
    machine,
    kind,
    last: before?.last ?? null,
    lastDone: before?.lastDone ?? null,
    failures: before?.failures ?? 0,
    skipped,
    skippedSince: before?.skippedSince ?? time,
  }
  if (skipped < 2) return { record, events: [] }
  return { record, events: [{ event: 'warning', kind, machine, message: `${message} (${times(skipped)} in a row)` }] }
}

function times(count: number): string {
  return count === 1 ? 'once' : `${count} times`
}

/** One warning is the same from run to run, though it names another point or count. */
function withoutNumbers(text: string): string {
  return text.replaceAll(/\d+/g, '#')
}
