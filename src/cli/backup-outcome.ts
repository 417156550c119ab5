import { RefpointError } from '../model/errors.js'
import type { BackupReport } from '../operations/backup/backup.js'
import type { Context } from './context.js'
import { formatBytes, formatDuration } from './format.js'
import { QuietlyLocked } from './quietly-locked.js'
import { describeError } from './report-error.js'

export interface MachineFailure {
  readonly machine: string
  readonly error: unknown
}

export function tellFailure({ output }: Context, { machine, error }: MachineFailure): void {
  if (error instanceof QuietlyLocked) return
  const { message, hint } = describeError(error)
  output.note(`${machine}: failed: ${message}`)
  if (hint !== undefined) output.note(`  ${hint}`)
}

/** The failure of runs whose point was committed, and whose tracker was caught in an untruth on the way. */
export function caughtTracker(reports: readonly BackupReport[]): RefpointError {
  return new RefpointError(
    'tracker',
    `the tracker of ${reports.map(({ manifest }) => `'${manifest.machine}'`).join(', ')} missed changes: ${reports.flatMap(({ distrusted }) => distrusted).join('; ')}`,
    {
      hint: 'The point was committed and is right. Points before it may lack changes, back to the last that was compared or full. Find out why the tracker was wrong.',
      fields: {
        committed: committedOf(reports),
        judged: reports.map(({ manifest, judged }) => ({ machine: manifest.machine, stores: judged })),
      },
    },
  )
}

/** Sums up a command over `count` machines. @throws RefpointError when any of them failed. */
export function conclude(
  { output, signal }: Context,
  reports: readonly BackupReport[],
  failures: readonly MachineFailure[],
  count: number,
): void {
  const [first] = failures
  if (first !== undefined && signal.aborted) throw cancelled(signal, reports)
  if (first !== undefined && count === 1) throw first.error
  const failed = failures.filter(({ error }) => !(error instanceof QuietlyLocked))
  // A run that was only going on elsewhere is not worth a mail.
  const quiet = failed.length === 0 && first !== undefined
  if (count > 1 && !quiet) output.line(summary(reports, failures, count))
  const caught = reports.filter(({ distrusted }) => distrusted.length > 0)
  if (failed.length > caught.length) {
    throw new RefpointError(
      'machines-failed',
      `${failed.length} of ${count} machines failed: ${failed.map(({ machine }) => machine).join(', ')}`,
      {
        hint: 'Each is told above. The points of the others are committed.',
        fields: {
          failed: failed.map(({ machine, error }) => ({ machine, ...describeError(error) })),
          committed: committedOf(reports),
        },
      },
    )
  }
  if (caught.length > 0) throw caughtTracker(caught)
  if (first !== undefined) throw first.error
  output.result({ points: reports.map(({ manifest, readBytes, unfinished }) => ({ ...manifest, readBytes, unfinished })) })
}

/** One line, the last of a mail. */
function summary(reports: readonly BackupReport[], failures: readonly MachineFailure[], count: number): string {
  const locked = failures.filter(({ error }) => error instanceof QuietlyLocked)
  const failed = failures.filter(({ error }) => !(error instanceof QuietlyLocked))
  const warned = reports.filter(({ manifest, unfinished }) => manifest.warnings.length + unfinished.length > 0)
  const named = (what: string, machines: readonly string[]): string[] => {
    if (machines.length === 0) return []
    const names = machines.length > 8 ? [...machines.slice(0, 8), '…'] : machines
    return [`${machines.length} ${what} (${names.join(', ')})`]
  }
  const parts = [
    ...(failed.length === 0 && locked.length === 0 ? ['all done'] : [`${reports.length} done`]),
    ...named('failed', failed.map(({ machine }) => machine)),
    ...named('still going in another run', locked.map(({ machine }) => machine)),
    ...named('with warnings', warned.map(({ manifest }) => manifest.machine)),
  ]
  const read = reports.reduce((sum, { readBytes }) => sum + readBytes, 0)
  const stored = reports.reduce((sum, { manifest }) => sum + manifest.archive.bytes, 0)
  const took = Math.max(0, ...reports.map(({ manifest }) => manifest.durationMs))
  return `${count} machines: ${parts.join(', ')}; read ${formatBytes(read)}, stored ${formatBytes(stored)}; the longest took ${formatDuration(took)}`
}

function committedOf(reports: readonly BackupReport[]): readonly { readonly machine: string; readonly point: number }[] {
  return reports.map(({ manifest }) => ({ machine: manifest.machine, point: manifest.point }))
}

/** What was committed before somebody cancelled is there to stay, and must not be told as undone. */
function cancelled(signal: AbortSignal, reports: readonly BackupReport[]): unknown {
  if (!(signal.reason instanceof RefpointError)) return signal.reason
  const committed = committedOf(reports)
  const what =
    committed.length === 0
      ? 'nothing was committed'
      : `committed before that: ${committed.map(({ machine, point }) => `${machine} #${point}`).join(', ')}`
  return new RefpointError('cancelled', `${signal.reason.message}; ${what}`, {
    fields: { committed },
    cause: signal.reason,
  })
}
