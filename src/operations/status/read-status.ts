import PQueue from 'p-queue'
import { RefpointError } from '../../model/errors.js'
import type { PointManifest } from '../../model/manifest.js'
import { readLease } from '../../repository/lease-record.js'
import { archivesFolder } from '../../repository/layout.js'
import { listMachines } from '../../repository/machine.js'
import { readManifests } from '../../repository/manifests.js'
import { currentProcess, processState } from '../../repository/process-identity.js'
import { type Proofs, readProofs } from '../../repository/proofs.js'
import type { ReadRepository, RepositoryRoom } from '../../repository/repository.js'
import { readRunRecords } from '../../repository/run-record.js'
import { type Alarm, dayMs, type MachineStatus, machineStatus, type Running } from './machine-status.js'

/** When a machine is to be backed up; a machine that nobody planned is only told of. */
export interface PlannedMachine {
  readonly name: string
  readonly schedule: string | undefined
}

export interface StatusRequest {
  readonly planned: readonly PlannedMachine[]
  readonly zone: string
  readonly verifyWithinMs: number | undefined
  readonly now: Date
}

export interface RepositoryStatus {
  readonly repository: string
  readonly room: RepositoryRoom | null
  readonly growthBytesPerDay: number
  /** When the room will be used up if everything goes on as it did; null: not to be foreseen. */
  readonly fullAt: string | null
  readonly machines: readonly MachineStatus[]
  /** Of the repository as a whole. */
  readonly alarms: readonly Alarm[]
}

/** Room for less than this is alarming. */
const roomDays = 14
const farAheadDays = 3650

/** How all machines of a repository, and all that are planned, are doing. Reads manifests and records, no archive. */
export async function readStatus(repository: ReadRepository, request: StatusRequest): Promise<RepositoryStatus> {
  const { planned, now } = request
  const schedules = new Map(planned.map(({ name, schedule }) => [name, schedule]))
  const names = [...new Set([...schedules.keys(), ...(await listMachines(repository))])].sort()
  const queue = new PQueue({ concurrency: 8 })
  const machines = await queue.addAll(
    names.map((name) => () => readMachineStatus(repository, name, schedules.get(name), request)),
  )
  const room = (await repository.room()) ?? null
  const growthBytesPerDay = machines.reduce((sum, machine) => sum + machine.growthBytesPerDay, 0)
  const days = room === null || growthBytesPerDay === 0 ? Infinity : room.freeBytes / growthBytesPerDay
  const fullAt = days > farAheadDays ? null : new Date(now.getTime() + days * dayMs).toISOString()
  const alarms: Alarm[] =
    days > roomDays ? [] : [{ alarm: 'room', message: `the room of the repository lasts for ${Math.floor(days)} more days` }]
  return { repository: repository.description, room, growthBytesPerDay, fullAt, machines, alarms }
}

async function readMachineStatus(
  repository: ReadRepository,
  machine: string,
  schedule: string | undefined,
  { zone, verifyWithinMs, now }: StatusRequest,
): Promise<MachineStatus> {
  const [{ points, audits, problems }, { records, problems: recordProblems }, proofs, archives, lease] = await Promise.all([
    readManifests(repository, machine),
    readRunRecords(repository, machine),
    told(() => readProofs(repository, machine)),
    repository.children(archivesFolder(machine)),
    told(() => running(repository, machine)),
  ])
  const gone = await missingArchives(repository, machine, points, archives)
  const damage = problems
    // A machine that was only planned so far has no record, and none is missing.
    .filter(({ point }) => point !== undefined || points.length > 0 || archives.length > 0)
    .map(({ message }) => message)
  if (gone.length > 0) damage.push(`${gone.length} archives are missing, the first is that of point #${gone[0]?.point}`)
  if (points.length === 0 && archives.length > 0) damage.push(`there are ${archives.length} archives, and no points`)
  return machineStatus(
    {
      machine,
      points,
      audits,
      damage,
      records,
      recordProblems: [...recordProblems, ...proofs.problems, ...lease.problems],
      proofs: proofs.found ?? { format: 1, proven: {}, damaged: {} } satisfies Proofs,
      running: lease.found,
      schedule,
      zone,
      verifyWithinMs,
    },
    now,
  )
}

/** Points whose archive is not there. What a backup or a prune did while they were listed is none of them. */
async function missingArchives(
  repository: ReadRepository,
  machine: string,
  points: readonly PointManifest[],
  archives: readonly string[],
): Promise<readonly PointManifest[]> {
  const there = new Set(archives)
  const unlisted = points.filter(({ archive }) => !there.has(archive.name.slice(archive.name.lastIndexOf('/') + 1)))
  if (unlisted.length === 0) return []
  const now = new Map((await readManifests(repository, machine)).points.map((point) => [point.point, point]))
  const gone: PointManifest[] = []
  for (const { point } of unlisted) {
    const still = now.get(point)
    if (still !== undefined && (await repository.stat(still.archive.name)) === undefined) gone.push(still)
  }
  return gone
}

/** What is damaged is told, and keeps nobody from being told the rest. */
async function told<Result>(
  read: () => Promise<Result>,
): Promise<{ readonly found: Result | undefined; readonly problems: readonly string[] }> {
  try {
    return { found: await read(), problems: [] }
  } catch (error) {
    if (error instanceof RefpointError && error.code === 'damaged') return { found: undefined, problems: [error.message] }
    throw error
  }
}

async function running(repository: ReadRepository, machine: string): Promise<Running | undefined> {
  const lease = await readLease(repository, machine)
  if (lease === undefined || lease.released) return undefined
  const { holder, command, since } = lease.record
  if (processState(holder, currentProcess()) === 'gone') return undefined
  return { command, host: holder.host, pid: holder.pid, since }
}
