/*
 * How operations on a machine went: one small object for each kind of operation, `machines/<machine>/runs/<kind>.json`,
 * replaced as a whole after every run. It is told from, never decided from: what is in the repository, its manifests
 * say. So two hosts may write one at the same time; then one run's outcome is forgotten, and nothing else is lost.
 */
import { z } from 'zod'
import { RefpointError } from '../model/errors.js'
import { type RunKind, type RunOutcome, type RunRecord, runKinds } from '../model/run.js'
import { decodeJson, encodeJson, parseObject } from './json-object.js'
import { machineFolder } from './layout.js'
import type { ReadRepository, WriteRepository } from './repository.js'

const limitBytes = 1024 * 1024

const outcome: z.ZodType<RunOutcome> = z.object({
  result: z.enum(['done', 'warning', 'failed', 'cancelled']),
  startedAt: z.iso.datetime(),
  endedAt: z.iso.datetime(),
  host: z.string(),
  command: z.string(),
  error: z.object({ code: z.string(), message: z.string(), hint: z.string().nullable() }).nullable(),
  warnings: z.array(z.string()),
  facts: z.record(z.string(), z.number()),
})

const schema: z.ZodType<RunRecord> = z.object({
  format: z.literal(1),
  machine: z.string(),
  kind: z.enum(runKinds),
  last: outcome.nullable(),
  lastDone: outcome.nullable(),
  failures: z.int().nonnegative(),
  skipped: z.int().nonnegative(),
  skippedSince: z.iso.datetime().nullable(),
})

export function runsFolder(machine: string): string {
  return `${machineFolder(machine)}/runs`
}

export function runRecordName(machine: string, kind: RunKind): string {
  return `${runsFolder(machine)}/${kind}.json`
}

/** How the runs of a kind went; undefined when there was none. @throws RefpointError `damaged`, saying what to do. */
export async function readRunRecord(
  repository: ReadRepository,
  machine: string,
  kind: RunKind,
): Promise<RunRecord | undefined> {
  const object = runRecordName(machine, kind)
  try {
    const bytes = await repository.read(object, limitBytes)
    if (bytes === undefined) return undefined
    const record = parseObject(object, schema, decodeJson(object, bytes))
    if (record.machine === machine && record.kind === kind) return record
    throw new RefpointError('damaged', `object ${object} is of ${record.kind} of machine '${record.machine}'`)
  } catch (error) {
    if (!(error instanceof RefpointError) || error.code !== 'damaged') throw error
    throw new RefpointError('damaged', error.message, {
      hint: 'No point is affected: it only says how the last runs went. The next run writes it anew.',
      fields: { object },
      cause: error,
    })
  }
}

/** All that is known of how operations on a machine went, and what of it can't be read. */
export async function readRunRecords(
  repository: ReadRepository,
  machine: string,
): Promise<{ readonly records: readonly RunRecord[]; readonly problems: readonly string[] }> {
  const names = await repository.children(runsFolder(machine))
  const records: RunRecord[] = []
  const problems: string[] = []
  for (const kind of runKinds) {
    if (!names.includes(`${kind}.json`)) continue
    try {
      const record = await readRunRecord(repository, machine, kind)
      if (record !== undefined) records.push(record)
    } catch (error) {
      if (!(error instanceof RefpointError) || error.code !== 'damaged') throw error
      problems.push(error.message)
    }
  }
  return { records, problems }
}

export async function writeRunRecord(repository: WriteRepository, record: RunRecord): Promise<void> {
  await repository.put(runRecordName(record.machine, record.kind), [encodeJson(record)])
}
