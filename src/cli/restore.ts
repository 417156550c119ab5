import { resolve } from 'node:path'
import { RefpointError } from '../model/errors.js'
import type { WriteEnvironment } from '../operations/environment.js'
import { choosePoint, listPoints, type When } from '../operations/points.js'
import type { RestoreRequest } from '../operations/restore/restore.js'
import { whilePinned } from '../repository/pin.js'
import { type Context, type GlobalOptions, withEnvironment } from './context.js'
import { formatBytes, formatDuration, formatTime } from './format.js'
import { createProgressBoard } from './progress.js'
import { parseWhen } from './when.js'

export interface RestoreFlags extends GlobalOptions {
  readonly at: string
  readonly to?: string
  readonly writeTo?: string
  readonly format?: 'raw' | 'qcow2'
  readonly store?: readonly string[]
  readonly force?: boolean
}

/** `refpoint restore <machine> --at <when> --to <dir>` */
export async function restore(context: Context, machine: string, flags: RestoreFlags): Promise<void> {
  const when = parseWhen(flags.at)
  const to = targetOf(context, flags)
  await withEnvironment(context, flags, async (environment) => {
    await whilePinned(environment.repository, machine, { command: context.command }, () =>
      restorePinned(context, environment, machine, when, to, flags),
    )
  })
}

async function restorePinned(
  context: Context,
  environment: WriteEnvironment,
  machine: string,
  when: When,
  to: RestoreRequest['to'],
  flags: RestoreFlags,
): Promise<void> {
  const { output, signal } = context
  const [history] = await listPoints(environment.repository, machine)
  if (history === undefined) throw new RefpointError('usage', `there is no machine '${machine}'`)
  const point = choosePoint(history, when)
  for (const problem of history.problems) output.note(`warning: ${problem.message}`)
  output.note(`restoring point #${point.point} of '${machine}', taken ${formatTime(point.time)}`)
  const { restorePoint } = await import('../operations/restore/restore.js')
  const started = performance.now()
  const board = await createProgressBoard(output)
  const progress = board.start(machine)
  try {
    const { stores, configFiles, start } = await restorePoint(
      environment,
      {
        point,
        points: history.points,
        stores: flags.store,
        to,
        format: flags.format,
        force: flags.force === true,
        concurrentStores: 2,
      },
      { signal, onTotal: (bytes) => progress.total(bytes), onBytes: (bytes) => progress.advance(bytes) },
    )
    board.stop()
    for (const { store, path, sizeBytes, uncheckedBytes } of stores) {
      output.line(`${store}: ${formatBytes(sizeBytes)} at ${path}`)
      if (uncheckedBytes > 0)
        output.note(`${store}: warning: ${formatBytes(uncheckedBytes)} have no known digest and could not be checked`)
    }
    for (const path of configFiles) output.line(`configuration: ${path}`)
    if (start?.kind === 'script') output.line(`start it: ${start.path}, which says what differs from the original`)
    if (start?.kind === 'refused') {
      output.note("no start.sh was made: the machine's command line can't be rewritten without guessing")
      for (const reason of start.reasons) output.note(`  ${reason}`)
      output.note('  What it was is in config/qemu/machine.json.')
    }
    const tookMs = performance.now() - started
    output.line(
      `restored point #${point.point} in ${formatDuration(tookMs)}; every digest and content sum was checked`,
    )
    output.result({ machine, point: point.point, time: point.time, stores, configFiles, start, tookMs: Math.round(tookMs) })
  } finally {
    board.stop()
  }
}

function targetOf({ cwd }: Context, { to, writeTo }: RestoreFlags): { folder: string } | { writeTo: string } {
  if (to !== undefined && writeTo === undefined) return { folder: resolve(cwd, to) }
  if (writeTo !== undefined && to === undefined) return { writeTo: resolve(cwd, writeTo) }
  throw new RefpointError('usage', 'where to restore to was not said', {
    hint: 'Give either --to <dir> for new files, or --write-to <device or file> with one --store.',
  })
}
