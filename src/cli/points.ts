import { RefpointError } from '../model/errors.js'
import { readHolds } from '../repository/holds.js'
import { openRepository } from '../repository/open.js'
import { choosePoint, listPoints } from '../operations/points.js'
import { type Context, findRepository, type GlobalOptions } from './context.js'
import { describeStore, kindOf, totals } from './describe-point.js'
import { formatBytes, formatDuration, formatTime } from './format.js'
import { formatTable } from './table.js'
import { parseWhen } from './when.js'

/** `refpoint points [machine]` */
export async function points(context: Context, machine: string | undefined, options: GlobalOptions): Promise<void> {
  const { output } = context
  const { repository } = await findRepository(context, options)
  await openRepository(repository)
  const histories = await listPoints(repository, machine)
  for (const history of histories) {
    const held = new Map((await readHolds(repository, history.machine)).map(({ point, why }) => [point, why]))
    output.line(`${history.machine}: ${history.points.length} points`)
    const table = formatTable(
      [
        { title: 'point', align: 'right' },
        { title: 'time' },
        { title: 'kind' },
        { title: 'consistency' },
        { title: 'changed', align: 'right' },
        { title: 'stored', align: 'right' },
        { title: 'took', align: 'right' },
        { title: 'disks' },
      ],
      history.points.map((point) => [
        `#${point.point}`,
        formatTime(point.time),
        held.has(point.point) ? `${kindOf(point)}, held` : kindOf(point),
        point.consistency,
        formatBytes(totals(point).changedBytes),
        formatBytes(point.archive.bytes),
        formatDuration(point.durationMs),
        point.stores.map(describeStore).join('; '),
      ]),
    )
    for (const row of table) output.line(`  ${row}`)
    for (const [point, why] of held) output.line(`  #${point} is held: ${why}`)
    for (const problem of history.problems) output.note(`  damaged: ${problem.message}`)
  }
  if (histories.length === 0) output.line(`${repository.description} has no machines yet`)
  output.result({ machines: histories })
  const damaged = histories.flatMap((history) => history.problems)
  const [first] = damaged
  if (first !== undefined) {
    throw new RefpointError('damaged', `${damaged.length} objects are damaged or missing: ${first.message}`, {
      hint: "'refpoint verify' names every damaged thing and what it affects.",
    })
  }
}

/** `refpoint show <machine> <point>` */
export async function show(context: Context, machine: string, at: string, options: GlobalOptions): Promise<void> {
  const { output } = context
  const when = parseWhen(at)
  const { repository } = await findRepository(context, options)
  await openRepository(repository)
  const [history] = await listPoints(repository, machine)
  if (history === undefined) throw new RefpointError('usage', `there is no machine '${machine}'`)
  const point = choosePoint(history, when)
  output.result(point)
  const facts: readonly (readonly [string, string])[] = [
    ['machine', `${point.machine} (${point.machineUuid})`],
    ['point', `#${point.point}, ${kindOf(point)}${point.parent === null ? '' : `, parent #${point.parent}`}`],
    ['time', formatTime(point.time)],
    ['consistency', point.consistency],
    ['tracker', point.tracker],
    ['took', `${formatDuration(point.durationMs)}, begun ${formatTime(point.startedAt)}`],
    ['archive', `${point.archive.name}, ${formatBytes(point.archive.bytes)}`],
    ['sha256', point.archive.sha256],
    ['made by', point.agent],
  ]
  for (const [name, value] of facts) output.line(`${name.padEnd(12)} ${value}`)
  for (const warning of point.warnings) output.line(`${'warning'.padEnd(12)} ${warning}`)
  output.line()
  const table = formatTable(
    [
      { title: 'disk' },
      { title: 'size', align: 'right' },
      { title: 'mode' },
      { title: 'changed', align: 'right' },
      { title: 'content', align: 'right' },
      { title: 'stored', align: 'right' },
      { title: 'extents', align: 'right' },
      { title: 'reason' },
    ],
    point.stores.map((store) => [
      store.name,
      formatBytes(store.sizeBytes),
      store.mode,
      formatBytes(store.changedBytes),
      formatBytes(store.contentBytes),
      formatBytes(store.storedBytes),
      String(store.dataExtents + store.zeroExtents),
      store.reason,
    ]),
  )
  for (const row of table) output.line(row)
}
