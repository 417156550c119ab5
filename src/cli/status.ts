import { RefpointError } from '../model/errors.js'
import type { MachineStatus } from '../operations/status/machine-status.js'
import { readStatus, type RepositoryStatus } from '../operations/status/read-status.js'
import { openRepository } from '../repository/open.js'
import { systemZone } from '../schedule/expression.js'
import { type Context, findRepository, type GlobalOptions } from './context.js'
import { formatBytes, formatDuration, formatTime } from './format.js'
import type { Output } from './output.js'
import { formatTable } from './table.js'

/** `refpoint status`: one screen, and status 4 when somebody should look. */
export async function status(context: Context, flags: GlobalOptions): Promise<void> {
  const { repository, config } = await findRepository(context, flags)
  await openRepository(repository)
  const now = new Date()
  const found = await readStatus(repository, {
    planned: config?.machines ?? [],
    zone: config?.zone ?? systemZone(),
    verifyWithinMs: config?.verify.withinMs,
    now,
  })
  tell(context.output, found, now)
  const alarms = [
    ...found.alarms.map((alarm) => ({ machine: null, ...alarm })),
    ...found.machines.flatMap(({ machine, alarms }) => alarms.map((alarm) => ({ machine, ...alarm }))),
  ]
  // The document is the answer also where there are alarms: they are a part of it.
  context.output.result({ ...found, alarms: found.alarms })
  if (alarms.length === 0) return
  const machines = new Set(alarms.flatMap(({ machine }) => (machine === null ? [] : [machine])))
  const whose = machines.size === 0 ? 'the repository' : machines.size === 1 ? `'${[...machines].join('')}'` : `${machines.size} machines`
  throw new RefpointError('attention', `somebody should look at ${whose}: ${alarms.length} alarms`, {
    hint: 'Each is told above. README.md, "When it says …", tells what each means and what to do.',
    fields: { alarms },
  })
}

function tell(output: Output, { repository, room, growthBytesPerDay, fullAt, machines, alarms }: RepositoryStatus, now: Date): void {
  const parts = [repository]
  if (room !== null) parts.push(`${formatBytes(room.freeBytes)} of ${formatBytes(room.sizeBytes)} free`)
  parts.push(`grows by ${formatBytes(Math.round(growthBytesPerDay))} a day`)
  if (fullAt !== null) parts.push(`full on ${fullAt.slice(0, 10)}`)
  output.line(parts.join(', '))
  const table = formatTable(
    [
      { title: 'machine' },
      { title: 'last point' },
      { title: 'age', align: 'right' },
      { title: 'due in', align: 'right' },
      { title: 'points', align: 'right' },
      { title: 'chain', align: 'right' },
      { title: 'disks', align: 'right' },
      { title: 'stored', align: 'right' },
      { title: 'a day', align: 'right' },
      { title: 'verified', align: 'right' },
      { title: 'audit', align: 'right' },
      { title: 'state' },
    ],
    machines.map((machine) => row(machine, now)),
  )
  for (const line of table) output.line(line)
  for (const { alarm, message } of alarms) output.note(`${alarm}: ${message}`)
  for (const { machine, alarms: own } of machines) {
    for (const { alarm, message } of own) output.note(`${machine}: ${alarm}: ${message}`)
  }
}

function row(machine: MachineStatus, now: Date): string[] {
  const { last, running } = machine
  const dueMs = machine.dueAt === null ? null : Date.parse(machine.dueAt) - now.getTime()
  return [
    machine.machine,
    last === null ? 'none' : `#${last.point} ${formatTime(last.time)} ${last.consistency}`,
    last === null ? '' : formatDuration(last.ageMs),
    dueMs === null ? '' : dueMs >= 0 ? formatDuration(dueMs) : `late ${formatDuration(-dueMs)}`,
    String(machine.points),
    machine.chainLength === null ? '' : String(machine.chainLength),
    formatBytes(machine.diskBytes),
    formatBytes(machine.archivesBytes),
    formatBytes(Math.round(machine.growthBytesPerDay)),
    verified(machine, now),
    machine.auditDays === null ? '' : `${Math.ceil(machine.auditDays)} d`,
    [
      ...(running === null ? [] : [`running since ${formatDuration(now.getTime() - Date.parse(running.since))} (pid ${running.pid} on ${running.host})`]),
      ...new Set(machine.alarms.map(({ alarm }) => alarm)),
    ].join(', ') || 'ok',
  ]
}

/** How old the oldest proof is. */
function verified({ points, oldestProof, unprovenPoints }: MachineStatus, now: Date): string {
  if (points === 0) return ''
  if (oldestProof === null) return unprovenPoints === points ? 'never' : `${points - unprovenPoints} of ${points}`
  return formatDuration(Math.max(0, now.getTime() - Date.parse(oldestProof)))
}
