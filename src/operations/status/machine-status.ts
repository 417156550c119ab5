import { chainLength, storeRecord } from '../../model/chain.js'
import { RefpointError } from '../../model/errors.js'
import { DIGEST_BLOCK_BYTES } from '../../model/geometry.js'
import type { AuditManifest, PointManifest } from '../../model/manifest.js'
import type { RunRecord } from '../../model/run.js'
import { trustOf } from '../../model/trust.js'
import { affectedPoints, type Proofs, provenAtMs } from '../../repository/proofs.js'
import { nextTime } from '../../schedule/expression.js'

const hourMs = 3_600_000
export const dayMs = 24 * hourMs
/** A time may be this far ahead of this host's clock before it is called one of the future. */
const clockToleranceMs = 5 * 60_000
/** Growth is that of this long, as far as there are points. */
const growthDays = 30
const mostGraceMs = 12 * hourMs

export interface Running {
  readonly command: string
  readonly host: string
  readonly pid: number
  readonly since: string
}

/** What is wrong, by a word that README.md, "When it says …", explains. */
export interface Alarm {
  readonly alarm:
    | 'overdue' | 'never' | 'failing' | 'locked' | 'damaged' | 'unproven' | 'distrusted' | 'clock' | 'record' | 'room'
  readonly message: string
}

/** All that is known of a machine, and when. */
export interface MachineFacts {
  readonly machine: string
  readonly points: readonly PointManifest[]
  readonly audits: readonly AuditManifest[]
  /** What is damaged or missing, or could not be read. */
  readonly damage: readonly string[]
  readonly records: readonly RunRecord[]
  readonly recordProblems: readonly string[]
  readonly proofs: Proofs
  readonly running: Running | undefined
  /** Undefined: nobody said when it is backed up. */
  readonly schedule: string | undefined
  readonly zone: string
  /** Everything is to be proven within this time; undefined: nobody said. */
  readonly verifyWithinMs: number | undefined
}

export interface MachineStatus {
  readonly machine: string
  readonly points: number
  readonly last: { readonly point: number; readonly time: string; readonly ageMs: number; readonly consistency: string } | null
  /** When the next point is expected. */
  readonly dueAt: string | null
  readonly chainLength: number | null
  readonly diskBytes: number
  readonly archivesBytes: number
  readonly growthBytesPerDay: number
  readonly lastVerify: string | null
  /** The proof that is the oldest of all archives'; null where one was never proven. */
  readonly oldestProof: string | null
  readonly unprovenPoints: number
  readonly lastAudit: string | null
  /** Days until the rotation of audits has been everywhere once, as fast as it went lately; null: it does not go on. */
  readonly auditDays: number | null
  readonly distrusted: readonly string[]
  readonly running: Running | null
  readonly runs: readonly RunRecord[]
  readonly alarms: readonly Alarm[]
}

/** Decides what to tell of a machine, and what of it is alarming. */
export function machineStatus(facts: MachineFacts, now: Date): MachineStatus {
  const { machine, points, audits, records, running, proofs } = facts
  const last = points.at(-1)
  const bySlot = new Map(points.map((point) => [point.point, point]))
  const proven = points.map(({ archive }) => provenAtMs(proofs, archive.name))
  const oldest = proven.reduce((a, b) => Math.min(a, b), proven[0] ?? 0)
  const lastAuditMs = Math.max(0, ...audits.slice(-1).map(({ time }) => Date.parse(time)), ...auditedPoints(points))
  const distrusted = (last?.stores ?? [])
    .filter(({ name }) => trustOf([...points.slice(-1), ...audits.slice(-1)], name).distrust !== null)
    .map(({ name }) => name)
  const due = last === undefined || facts.schedule === undefined ? undefined : nextTime(facts.schedule, new Date(last.startedAt), facts.zone)
  return {
    machine,
    points: points.length,
    last:
      last === undefined
        ? null
        : { point: last.point, time: last.time, ageMs: now.getTime() - Date.parse(last.time), consistency: last.consistency },
    dueAt: due?.toISOString() ?? null,
    chainLength: last === undefined ? null : lengthOf(last, bySlot),
    diskBytes: (last?.stores ?? []).reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    archivesBytes: points.reduce((sum, { archive }) => sum + archive.bytes, 0),
    growthBytesPerDay: growthPerDay(points, now),
    lastVerify: records.find(({ kind }) => kind === 'verify')?.lastDone?.endedAt ?? null,
    oldestProof: oldest > 0 ? new Date(oldest).toISOString() : null,
    unprovenPoints: proven.filter((time) => time === 0).length,
    lastAudit: lastAuditMs > 0 ? new Date(lastAuditMs).toISOString() : null,
    auditDays: auditDays(points),
    distrusted,
    running: running ?? null,
    runs: records,
    alarms: [...alarms(facts, { last, due, distrusted, oldest }, now)],
  }
}

function* alarms(
  facts: MachineFacts,
  { last, due, distrusted, oldest }: {
    readonly last: PointManifest | undefined
    readonly due: Date | undefined
    readonly distrusted: readonly string[]
    readonly oldest: number
  },
  now: Date,
): Generator<Alarm> {
  const { points, records, schedule, zone, proofs } = facts
  if (last === undefined) {
    if (schedule !== undefined) yield { alarm: 'never', message: 'it was never backed up' }
  } else if (due !== undefined && schedule !== undefined) {
    const graceMs = Math.min(mostGraceMs, nextTime(schedule, due, zone).getTime() - due.getTime())
    const lateMs = now.getTime() - due.getTime()
    if (lateMs > graceMs) {
      yield { alarm: 'overdue', message: `its last point is #${last.point}; the next was due ${due.toISOString()}` }
    }
  }
  for (const { kind, failures, last: run, skipped, skippedSince } of records) {
    // A salvage is not taken again until it is whole.
    if (failures > 0 && kind !== 'salvage') {
      const times = failures === 1 ? '' : ` ${failures} times in a row`
      yield { alarm: 'failing', message: `${kind} failed${times}: ${run?.error?.message ?? 'it is not known why'}` }
    }
    if (skipped > 1) {
      yield { alarm: 'locked', message: `${kind} found it locked ${skipped} times in a row, since ${skippedSince ?? 'unknown'}` }
    }
  }
  for (const message of facts.damage.slice(0, 3)) yield { alarm: 'damaged', message }
  if (facts.damage.length > 3) yield { alarm: 'damaged', message: `and ${facts.damage.length - 3} more` }
  const there = new Set(points.map(({ point }) => point))
  const bad = [...affectedPoints(proofs)].filter((point) => there.has(point)).sort((a, b) => a - b)
  if (bad.length > 0) {
    const which = bad.slice(0, 10).map((point) => `#${point}`).join(', ')
    yield { alarm: 'damaged', message: `verify found points that can't be restored whole: ${which}${bad.length > 10 ? ', …' : ''}` }
  }
  if (facts.verifyWithinMs !== undefined && points.length > 0) {
    const since = points.reduce((first, point) => {
      return Math.min(first, Math.max(provenAtMs(proofs, point.archive.name), Date.parse(point.time)))
    }, Infinity)
    if (now.getTime() - since > facts.verifyWithinMs) {
      const when = oldest > 0 ? `since ${new Date(since).toISOString()}` : 'yet'
      yield { alarm: 'unproven', message: `some of it was not verified ${when}, and should be within ${Math.round(facts.verifyWithinMs / dayMs)} days` }
    }
  }
  if (distrusted.length > 0) {
    yield { alarm: 'distrusted', message: `the tracker of ${distrusted.join(', ')} was caught missing changes` }
  }
  for (const [what, time] of futures(facts)) {
    if (Date.parse(time) > now.getTime() + clockToleranceMs) {
      yield { alarm: 'clock', message: `${what} is of the future (${time}): a clock is or was wrong` }
    }
  }
  for (const message of facts.recordProblems) yield { alarm: 'record', message }
}

function* futures({ points, records, proofs }: MachineFacts): Generator<readonly [what: string, time: string]> {
  const last = points.at(-1)
  if (last !== undefined) yield [`point #${last.point}`, last.time]
  for (const { kind, last: run } of records) if (run !== null) yield [`the last ${kind}`, run.endedAt]
  const newest = Object.values(proofs.proven).reduce((a, b) => Math.max(a, b), 0)
  if (newest > 0 && newest < 8.64e12) yield ['a verified archive', new Date(newest * 1000).toISOString()]
}

function lengthOf(point: PointManifest, bySlot: ReadonlyMap<number, PointManifest>): number | null {
  try {
    return chainLength(point, bySlot)
  } catch (error) {
    if (error instanceof RefpointError && error.code === 'damaged') return null
    throw error
  }
}

/** Stored bytes of the points of the last days, without the first point of all: that one is no growth. */
function growthPerDay(points: readonly PointManifest[], now: Date): number {
  const from = now.getTime() - growthDays * dayMs
  const [first] = points
  const recent = points.filter((point) => point !== first && Date.parse(point.time) >= from)
  const start = Math.max(from, Date.parse(first?.time ?? now.toISOString()))
  const days = Math.max(1, (now.getTime() - start) / dayMs)
  return recent.reduce((sum, { archive }) => sum + archive.bytes, 0) / days
}

/** Instants of points that were taken by a tracker's word, and so audited on the way. */
function auditedPoints(points: readonly PointManifest[]): number[] {
  const audited = points.findLast((point, i) => {
    const before = points[i - 1]
    return point.stores.some((store) => before !== undefined && store.auditedTo !== (storeRecord(before, store.name)?.auditedTo ?? 0))
  })
  return audited === undefined ? [] : [Date.parse(audited.time)]
}

const auditSample = 30

function auditDays(points: readonly PointManifest[]): number | null {
  const sample = points.slice(-auditSample)
  const [first] = sample
  const last = sample.at(-1)
  if (first === undefined || last === undefined || first === last) return null
  const days = Math.max((Date.parse(last.time) - Date.parse(first.time)) / dayMs, 1e-6)
  let slowest = 0
  for (const { name, sizeBytes, mode } of last.stores) {
    if (mode !== 'tracked' && mode !== 'refined') continue
    const blocks = Math.max(1, Math.ceil(sizeBytes / DIGEST_BLOCK_BYTES))
    let done = 0
    sample.forEach((point, i) => {
      const before = sample[i - 1]
      if (before === undefined) return
      const [to, from] = [storeRecord(point, name)?.auditedTo ?? 0, storeRecord(before, name)?.auditedTo ?? 0]
      done += (to - from + blocks) % blocks
    })
    if (done === 0) return null
    slowest = Math.max(slowest, (blocks / done) * days)
  }
  return slowest === 0 ? null : slowest
}
