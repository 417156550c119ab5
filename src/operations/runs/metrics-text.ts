import type { RunRecord } from '../../model/run.js'
import type { RepositoryRoom } from '../../repository/repository.js'

type Labels = Readonly<Record<string, string>>

/** Gauges in the order of their first mention, each with its rows together, as the format demands. */
class Gauges {
  readonly #gauges = new Map<string, { readonly help: string; readonly rows: string[] }>()

  add(name: string, help: string, labels: Labels, value: number): void {
    let gauge = this.#gauges.get(name)
    if (gauge === undefined) this.#gauges.set(name, (gauge = { help, rows: [] }))
    const written = Object.entries(labels).map(([label, text]) => `${label}="${escapeLabel(text)}"`)
    gauge.rows.push(`${name}${written.length === 0 ? '' : `{${written.join(',')}}`} ${value}`)
  }

  toText(): string {
    const lines = [...this.#gauges].flatMap(([name, { help, rows }]) => [
      `# HELP ${name} ${help}`,
      `# TYPE ${name} gauge`,
      ...rows,
    ])
    return `${lines.join('\n')}\n`
  }
}

const help: Readonly<Record<string, string>> = {
  backup_point: 'Number of the newest point.',
  backup_point_timestamp_seconds: 'Instant of the newest point, in seconds since the epoch.',
  backup_points: 'Points of the machine.',
  backup_chain_length: 'Archives that the newest point needs.',
  backup_changed_bytes: 'Bytes of all extents of the newest point.',
  backup_read_bytes: 'Bytes that the last backup read from the disks.',
  backup_stored_bytes: 'Bytes that the last backup stored.',
  backup_archives_bytes: 'Bytes of all archives of the machine.',
  backup_distrusted_stores: 'Disks whose tracker the last backup caught in an untruth.',
}

/** Run records in the text form that Prometheus reads; names and units by its conventions. */
export function metricsText(
  records: readonly RunRecord[],
  { version, room }: { readonly version: string; readonly room: RepositoryRoom | undefined },
): string {
  const gauges = new Gauges()
  gauges.add('refpoint_build_info', 'Always 1; the version that wrote this.', { version }, 1)
  if (room !== undefined) {
    gauges.add('refpoint_repository_free_bytes', 'Bytes that are free where the repository is.', {}, room.freeBytes)
    gauges.add('refpoint_repository_size_bytes', 'Bytes of the file system of the repository.', {}, room.sizeBytes)
  }
  for (const { machine, kind, last, lastDone, failures, skipped } of records) {
    const labels = { machine, kind }
    if (last !== null) {
      const good = last.result === 'done' || last.result === 'warning'
      const tookMs = Date.parse(last.endedAt) - Date.parse(last.startedAt)
      gauges.add('refpoint_run_success', 'Whether the last run did what it should.', labels, good ? 1 : 0)
      gauges.add('refpoint_run_end_timestamp_seconds', 'When the last run ended.', labels, seconds(last.endedAt))
      gauges.add('refpoint_run_duration_seconds', 'How long the last run took.', labels, Math.max(0, tookMs / 1000))
      gauges.add('refpoint_run_warnings', 'Warnings of the last run.', labels, last.warnings.length)
    }
    const done = lastDone === null ? 0 : seconds(lastDone.endedAt)
    gauges.add('refpoint_run_success_timestamp_seconds', 'When a run last did what it should; 0: never.', labels, done)
    gauges.add('refpoint_run_failures', 'Runs that failed since one did what it should.', labels, failures)
    gauges.add('refpoint_run_skipped', 'Runs since the last that found the machine locked.', labels, skipped)
    const told = last !== null && Object.keys(last.facts).length > 0 ? last : lastDone
    for (const [name, value] of Object.entries(told?.facts ?? {})) {
      const fact = `${kind}_${name}`
      gauges.add(`refpoint_${fact}`, help[fact] ?? `${name} of the last ${kind} that told it.`, { machine }, value)
    }
  }
  return gauges.toText()
}

function seconds(time: string): number {
  return Date.parse(time) / 1000
}

function escapeLabel(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')
}
