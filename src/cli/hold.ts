import { RefpointError } from '../model/errors.js'
import { choosePoint, listPoints } from '../operations/points.js'
import { type Context, type GlobalOptions, withEnvironment } from './context.js'
import { parseWhen } from './when.js'

export interface HoldFlags extends GlobalOptions {
  readonly why: string
}

/** `refpoint hold <machine> <point> --why <text>` */
export async function hold(context: Context, machine: string, at: string, flags: HoldFlags): Promise<void> {
  const when = parseWhen(at)
  if (flags.why.trim() === '') {
    throw new RefpointError('usage', '--why is empty', { hint: 'Say why, for whoever wonders in a year.' })
  }
  await withEnvironment(context, flags, async (environment) => {
    const { holdPoint } = await import('../operations/prune/hold.js')
    const held = await holdPoint(environment, machine, { when, why: flags.why.trim() }, context.signal)
    context.output.line(`point #${held.point} of '${machine}' is held: ${held.why}`)
    context.output.result({ machine, ...held })
  })
}

/** `refpoint release <machine> <point>` */
export async function release(context: Context, machine: string, at: string, flags: GlobalOptions): Promise<void> {
  const when = parseWhen(at)
  await withEnvironment(context, flags, async (environment) => {
    const { releasePoint } = await import('../operations/prune/hold.js')
    const [history] = await listPoints(environment.repository, machine)
    if (history === undefined) throw new RangeError(`machine '${machine}' has no history`)
    // A hold of a point that is lost can be ended too.
    const point = when.kind === 'point' ? when.point : choosePoint(history, when).point
    const ended = await releasePoint(environment, machine, point)
    context.output.line(`point #${point} of '${machine}' is no longer held`)
    context.output.result({ machine, point, ended })
  })
}
