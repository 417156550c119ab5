import { resolve } from 'node:path'
import { RefpointError } from '../model/errors.js'
import type { PointManifest } from '../model/manifest.js'
import type { WriteEnvironment } from '../operations/environment.js'
import { choosePoint, listPoints, type MachineHistory } from '../operations/points.js'
import type { RunNotes } from '../operations/runs/run-reporter.js'
import type { LostRange } from '../operations/salvage/lost-blocks.js'
import type { SalvageReport } from '../operations/salvage/salvage.js'
import { bytesOf, type SalvagedStore } from '../operations/salvage/salvage-store.js'
import { whilePinned } from '../repository/pin.js'
import type { Context, GlobalOptions } from './context.js'
import { formatBytes, formatDuration, formatTime } from './format.js'
import { createProgressBoard } from './progress.js'
import { withReportedRuns } from './reported-runs.js'
import { parseWhen } from './when.js'

export interface SalvageFlags extends GlobalOptions {
  readonly at: string
  readonly to: string
  readonly store?: readonly string[]
  readonly withOlder?: boolean
  readonly force?: boolean
}

/** Ranges that are told one by one; the list has all of them. */
const TOLD = 20

/** `refpoint salvage <machine> --at <when> --to <dir>` */
export async function salvage(context: Context, machine: string, flags: SalvageFlags): Promise<void> {
  const when = parseWhen(flags.at)
  await withReportedRuns(context, flags, 'salvage', async ({ environment, runs }) => {
    await whilePinned(environment.repository, machine, { command: context.command }, async () => {
      const [history] = await listPoints(environment.repository, machine)
      if (history === undefined) throw new RefpointError('usage', `there is no machine '${machine}'`)
      const point = choosePoint(history, when)
      await runs.run('salvage', machine, (notes) => salvageOne(context, environment, flags, { history, point }, notes))
    })
  })
}

async function salvageOne(
  context: Context,
  environment: WriteEnvironment,
  flags: SalvageFlags,
  { history, point }: { readonly history: MachineHistory; readonly point: PointManifest },
  notes: RunNotes,
): Promise<void> {
  const { output, signal } = context
  output.note(`salvaging point #${point.point} of '${point.machine}', taken ${formatTime(point.time)}`)
  const { salvagePoint } = await import('../operations/salvage/salvage.js')
  const started = performance.now()
  const board = await createProgressBoard(output)
  const progress = board.start(point.machine)
  try {
    const report = await salvagePoint(
      environment,
      {
        point,
        points: history.points,
        stores: flags.store,
        folder: resolve(context.cwd, flags.to),
        force: flags.force === true,
        withOlder: flags.withOlder === true,
      },
      { signal, onTotal: (bytes) => progress.total(bytes), onBytes: (bytes) => progress.advance(bytes) },
    )
    board.stop()
    notes.fact('point', point.point)
    notes.fact('proven_bytes', report.stores.reduce((sum, { provenBytes }) => sum + provenBytes, 0))
    for (const store of report.stores) for (const line of describe(store)) output.line(line)
    if ('lost' in report.config) output.line(`configuration: lost: ${report.config.lost}`)
    else for (const path of report.config.files) output.line(`configuration: ${path}`)
    throwUnlessWhole(report)
    const tookMs = Math.round(performance.now() - started)
    output.line(
      `salvaged all of point #${point.point} in ${formatDuration(tookMs)}: every byte is proven to be what it was`,
    )
    output.result({ ...report, tookMs })
  } finally {
    board.stop()
  }
}

function describe({ store, path, sizeBytes, provenBytes, suspects, lost }: SalvagedStore): string[] {
  const more = lost.length > TOLD ? [`  … and ${lost.length - TOLD} more ranges`] : []
  const doubt = suspects.map((archive) => `  not proven to be of its age: ${archive} is not what was written`)
  const told = lost.slice(0, TOLD).map((range) => `  ${describeRange(range)}`)
  return [`${store}: ${formatBytes(provenBytes)} of ${formatBytes(sizeBytes)} proven, at ${path}`, ...doubt, ...told, ...more]
}

const kinds: Readonly<Record<LostRange['kind'], string>> = {
  lost: 'lost, zeroes now',
  older: 'content of an older point',
  unchecked: 'not checked',
}

function describeRange({ kind, offset, length, point, reason }: LostRange): string {
  const where = point === null ? '' : `point #${point}: `
  return `${kinds[kind]}: bytes ${offset} to ${offset + length} (${formatBytes(length)}): ${where}${reason}`
}

function throwUnlessWhole(report: SalvageReport): void {
  if (report.whole) return
  const ranges = report.stores.flatMap(({ lost }) => lost)
  const parts = (['lost', 'older', 'unchecked'] as const).flatMap((kind) => {
    const bytes = bytesOf(ranges, kind)
    return bytes === 0 ? [] : [`${formatBytes(bytes)} ${kind === 'older' ? 'from older points' : kind}`]
  })
  const suspects = [...new Set(report.stores.flatMap((store) => store.suspects))]
  if (suspects.length > 0) parts.push('nothing proven to be of its age')
  if ('lost' in report.config) parts.push('its configuration files lost')
  throw new RefpointError(
    'damaged',
    `point #${report.point} of machine '${report.machine}' was salvaged, but is not whole: ${parts.join(', ')}`,
    {
      hint:
        `Every range and its reason is in ${report.list}. ` +
        (suspects.length === 0
          ? 'What is not listed there is proven to be what it was.'
          : 'What is not listed there has its digest; but where the tables of a damaged archive are damaged too, it may be older than it should be.'),
      fields: { ...report },
    },
  )
}
