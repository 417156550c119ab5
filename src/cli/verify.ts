import { RefpointError } from '../model/errors.js'
import { choosePoint, listPoints } from '../operations/points.js'
import { type Context, type GlobalOptions, withEnvironment } from './context.js'
import { formatDuration } from './format.js'
import { createProgressBoard } from './progress.js'
import { parseWhen } from './when.js'

export interface VerifyFlags extends GlobalOptions {
  readonly at?: string
  readonly quick?: boolean
}

/** `refpoint verify [machine]` */
export async function verifyCommand(context: Context, machine: string | undefined, flags: VerifyFlags): Promise<void> {
  if (flags.at !== undefined && machine === undefined) {
    throw new RefpointError('usage', '--at needs a machine', { hint: 'For example: refpoint verify web01 --at latest' })
  }
  const when = flags.at === undefined ? undefined : parseWhen(flags.at)
  await withEnvironment(context, flags, async (environment) => {
    const { output, signal } = context
    const { verify } = await import('../operations/verify/verify.js')
    let point: number | undefined
    if (when !== undefined && machine !== undefined) {
      const [history] = await listPoints(environment.repository, machine)
      if (history !== undefined) point = choosePoint(history, when).point
    }
    const started = performance.now()
    const board = await createProgressBoard(output)
    const progress = board.start(machine ?? 'verify')
    let totalBytes = 0
    try {
      const report = await verify(
        environment,
        { machine, point, quick: flags.quick === true },
        {
          signal,
          onTotal: (bytes) => progress.total((totalBytes += bytes)),
          onBytes: (bytes) => progress.advance(bytes),
          onFinding: (finding) => {
            const store = finding.store === undefined ? '' : `, store '${finding.store}'`
            const where = finding.point === undefined ? '' : `, point #${finding.point}`
            const affects = finding.affects.length === 0 ? 'none' : finding.affects.map((slot) => `#${slot}`).join(', ')
            output.note(
              `damaged: machine '${finding.machine}'${where}${store}: ${finding.what} [${finding.object}]; affects points: ${affects}`,
            )
            output.event({ type: 'damaged', ...finding })
          },
        },
      )
      board.stop()
      const tookMs = Math.round(performance.now() - started)
      const { findings } = report
      if (findings.length > 0) {
        const affected = [
          ...new Set(findings.flatMap((finding) => finding.affects.map((slot) => `${finding.machine} #${slot}`))),
        ]
        throw new RefpointError(
          'damaged',
          `${findings.length} damaged things, ${affected.length} points affected: ${affected.join(', ')}`,
          {
            hint: 'Each is told above. Points that are not named are whole. Take a --full soon, so that new points do not need the damaged ones.',
            fields: { findings },
          },
        )
      }
      const how =
        flags.quick === true ? 'manifests, chains, archives’ sizes and tables (payload was not read)' : 'every byte'
      output.line(
        `verified ${report.points} points of ${report.machines} machines in ${formatDuration(tookMs)}: ${how}; nothing is damaged`,
      )
      if (report.unknownBlocks > 0)
        output.note(`${report.unknownBlocks} digest blocks have no known digest and could not be checked`)
      output.result({ ...report, tookMs })
    } finally {
      board.stop()
    }
  })
}
