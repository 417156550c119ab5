import { RefpointError } from '../model/errors.js'
import type { PointManifest } from '../model/manifest.js'
import type { WriteEnvironment } from '../operations/environment.js'
import { choosePoint, listPoints } from '../operations/points.js'
import type { Finding, VerifyReport, VerifyRequest } from '../operations/verify/verify.js'
import { hasMachine, listMachines } from '../repository/machine.js'
import { readManifests } from '../repository/manifests.js'
import { type Damage, recordProofs } from '../repository/proofs.js'
import type { Context, GlobalOptions } from './context.js'
import { formatDuration } from './format.js'
import { durationValue } from './option-values.js'
import { createProgressBoard } from './progress.js'
import { type Reported, withReportedRuns } from './reported-runs.js'
import { parseWhen } from './when.js'

export interface VerifyFlags extends GlobalOptions {
  readonly all?: boolean
  readonly at?: string
  readonly quick?: boolean
  readonly budget?: string
}

/** What verify looked at in all, over its machines. */
interface Sum {
  machines: Set<string>
  points: number
  /** The same, counted on the way. */
  looked: number
  unknownBlocks: number
  findings: Finding[]
  failures: unknown[]
}

/** `refpoint verify [machine]` */
export async function verifyCommand(context: Context, machine: string | undefined, flags: VerifyFlags): Promise<void> {
  const budgetMs = flags.budget === undefined ? undefined : durationValue(flags.budget)
  checkFlags(machine, flags)
  const when = flags.at === undefined ? undefined : parseWhen(flags.at)
  await withReportedRuns(context, flags, 'verify', async (reported) => {
    const { repository } = reported.environment
    const known = await listMachines(repository)
    if (machine !== undefined && !(await hasMachine(repository, machine))) {
      throw new RefpointError('usage', `there is no machine '${machine}' in ${repository.description}`, {
        hint: `It has: ${known.join(', ') || 'none'}.`,
      })
    }
    let point: number | undefined
    if (when !== undefined && machine !== undefined) {
      const [history] = await listPoints(repository, machine)
      if (history !== undefined) point = choosePoint(history, when).point
    }
    const started = performance.now()
    const sum: Sum = { machines: new Set(), points: 0, looked: 0, unknownBlocks: 0, findings: [], failures: [] }
    const names = machine === undefined ? known : [machine]
    const quick = flags.quick === true
    let left = 0
    if (budgetMs === undefined) {
      for (const name of names) await verifyOne(context, reported, { machine: name, point, quick }, sum)
    } else {
      const { oldestFirst } = await import('../operations/verify/oldest-first.js')
      const batches = await oldestFirst(repository, names, (message) => context.output.note(`warning: ${message}`))
      const total = batches.reduce((count, { points }) => count + points.length, 0)
      // One point at least, so that even the smallest budget gets on.
      const enough = (): boolean => sum.looked > 0 && performance.now() - started >= budgetMs
      for (const { machine: name, points } of batches) {
        if (enough()) break
        await verifyOne(context, reported, { machine: name, point: undefined, only: new Set(points), quick }, sum, enough)
      }
      left = total - sum.points
    }
    conclude(context, sum, { quick, tookMs: Math.round(performance.now() - started), left })
  })
}

function checkFlags(machine: string | undefined, flags: VerifyFlags): void {
  const wrong = (message: string, hint: string): RefpointError => new RefpointError('usage', message, { hint })
  if (flags.all === true && machine !== undefined) throw wrong('a machine was named together with --all', 'Say one of them.')
  if (flags.at !== undefined && machine === undefined) {
    throw wrong('--at needs a machine', 'For example: refpoint verify web01 --at latest')
  }
  if (flags.budget !== undefined && (flags.at !== undefined || flags.quick === true)) {
    throw wrong('--budget is for proving everything bit by bit', 'Leave out --at and --quick.')
  }
}

/** Verifies points of one machine and remembers what was found; damage is told, and kept for the end. */
async function verifyOne(
  context: Context,
  { environment, runs }: Reported,
  request: VerifyRequest & { readonly machine: string },
  sum: Sum,
  enough?: () => boolean,
): Promise<void> {
  const { output, signal } = context
  const { machine } = request
  const { verify } = await import('../operations/verify/verify.js')
  const board = await createProgressBoard(output)
  const progress = board.start(machine)
  const looked: PointManifest[] = []
  try {
    await runs.run('verify', machine, async (notes) => {
      let report: VerifyReport
      const findings: Finding[] = []
      try {
        report = await verify(environment, request, {
          signal,
          onTotal: (bytes) => progress.total(bytes),
          onBytes: (bytes) => progress.advance(bytes),
          onPoint: (_, point) => {
            looked.push(point)
            sum.looked += 1
          },
          onFinding: (finding) => {
            findings.push(finding)
            tellFinding(context, finding)
          },
          ...(enough === undefined ? {} : { enough }),
        })
      } finally {
        // Also of a verify that was broken off: what was proven is proven.
        await remember(context, environment, machine, looked, findings, request.quick)
      }
      board.stop()
      sum.machines.add(machine)
      sum.points += report.points
      sum.unknownBlocks += report.unknownBlocks
      sum.findings.push(...findings)
      notes.fact('points', report.points)
      notes.fact('damaged_things', findings.length)
      if (findings.length > 0) throw damaged(findings)
    })
  } catch (error) {
    if (!(error instanceof RefpointError && error.code === 'damaged')) throw error
    sum.failures.push(error)
  } finally {
    board.stop()
  }
}

function tellFinding({ output }: Context, finding: Finding): void {
  const store = finding.store === undefined ? '' : `, store '${finding.store}'`
  const where = finding.point === undefined ? '' : `, point #${finding.point}`
  const affects = finding.affects.length === 0 ? 'none' : finding.affects.map((slot) => `#${slot}`).join(', ')
  output.note(
    `damaged: machine '${finding.machine}'${where}${store}: ${finding.what} [${finding.object}]; affects points: ${affects}`,
  )
  output.event({ type: 'damaged', ...finding })
}

/** Writes down what was proven and what was found; that it can't is told, and does not undo the proof. */
async function remember(
  { output }: Context,
  { repository }: WriteEnvironment,
  machine: string,
  looked: readonly PointManifest[],
  findings: readonly Finding[],
  quick: boolean,
): Promise<void> {
  const affected = new Set(findings.flatMap(({ affects }) => affects))
  const whole = quick ? [] : looked.filter(({ point }) => !affected.has(point))
  const damaged = new Map<number, Damage>()
  for (const { point, what, affects } of findings) {
    if (point !== undefined) damaged.set(point, { what, affects: [...new Set([...(damaged.get(point)?.affects ?? []), ...affects])] })
  }
  if (whole.length === 0 && damaged.size === 0) return
  try {
    const { points } = await readManifests(repository, machine)
    await recordProofs(repository, machine, { whole, damaged, points })
  } catch (error) {
    output.note(`warning: what was verified of '${machine}' could not be written down: ${error instanceof Error ? error.message : String(error)}`)
  }
}

function damaged(findings: readonly Finding[]): RefpointError {
  const affected = [
    ...new Set(findings.flatMap((finding) => finding.affects.map((slot) => `${finding.machine} #${slot}`))),
  ]
  return new RefpointError(
    'damaged',
    `${findings.length} damaged things, ${affected.length} points affected: ${affected.join(', ')}`,
    {
      hint: 'Each is told above. Points that are not named are whole. Take a --full soon, so that new points do not need the damaged ones.',
      fields: { findings },
    },
  )
}

function conclude(
  { output }: Context,
  { machines, points, unknownBlocks, findings, failures }: Sum,
  { quick, tookMs, left }: { readonly quick: boolean; readonly tookMs: number; readonly left: number },
): void {
  if (findings.length > 0) throw damaged(findings)
  if (failures.length > 0) throw failures[0]
  const how = quick ? 'manifests, chains, archives’ sizes and tables (payload was not read)' : 'every byte'
  const rest = left === 0 ? '' : `; ${left} points are left for the next time`
  output.line(
    `verified ${points} points of ${machines.size} machines in ${formatDuration(tookMs)}: ${how}; nothing is damaged${rest}`,
  )
  if (unknownBlocks > 0)
    output.note(`${unknownBlocks} digest blocks have no known digest and could not be checked`)
  output.result({ machines: machines.size, points, findings, unknownBlocks, left, tookMs })
}
