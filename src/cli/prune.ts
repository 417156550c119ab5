import { resolve } from 'node:path'
import PQueue from 'p-queue'
import type { Config, MachineConfig } from '../config/config.js'
import { RefpointError } from '../model/errors.js'
import type { WriteEnvironment } from '../operations/environment.js'
import type { PruneEvent } from '../operations/prune/events.js'
import type { PointFate, PrunePlan } from '../operations/prune/plan.js'
import type { PruneReport, PruneRequest } from '../operations/prune/prune.js'
import type { RunNotes } from '../operations/runs/run-reporter.js'
import { type Context, type GlobalOptions, readConfig } from './context.js'
import { formatBytes, formatTime } from './format.js'
import { createProgressBoard } from './progress.js'
import { QuietlyLocked, toldAgain } from './quietly-locked.js'
import { describeError } from './report-error.js'
import { withRunsOn } from './reported-runs.js'
import { formatTable } from './table.js'

export interface PruneFlags extends GlobalOptions {
  readonly dryRun?: boolean
  readonly quietIfRunning?: boolean
}

/** What is told of one machine. */
interface Pruned {
  readonly machine: string
  readonly plan: PrunePlan
  /** Null for a dry run. */
  readonly report: PruneReport | null
}

/** `refpoint prune [machine]`: machine after machine; one that fails does not keep the others from it. */
export async function prune(context: Context, machine: string | undefined, flags: PruneFlags): Promise<void> {
  const config = await readConfig(context, flags)
  const machines = chooseMachines(config, machine)
  const services = await context.services()
  const where = flags.repository === undefined ? config.repository : { path: resolve(context.cwd, flags.repository) }
  const opened = { repository: await services.buildRepository(where), settings: config, config }
  await withRunsOn(context, opened, 'prune', async ({ environment, runs }) => {
    const { output, signal } = context
    const done: Pruned[] = []
    let locked: QuietlyLocked | undefined
    const failures: { readonly machine: string; readonly error: unknown }[] = []
    const previews = flags.dryRun === true ? startPreviews(environment, machines) : undefined
    for (const each of machines) {
      try {
        signal.throwIfAborted()
        const pruned =
          previews !== undefined
            ? await previewOf(previews, each)
            : await runs.run('prune', each.name, (notes) => pruneOne(context, environment, each, notes))
        tellPruned(context, pruned)
        done.push(pruned)
      } catch (failure) {
        const error = toldAgain(failure, runs.timesSkipped(each.name), flags)
        if (machines.length === 1 || signal.aborted) throw error
        if (error instanceof QuietlyLocked) {
          locked = error
          continue
        }
        failures.push({ machine: each.name, error })
        output.note(`${each.name}: failed: ${describeError(error).message}`)
      }
    }
    if (failures.length > 0) throw someFailed(failures, machines.length)
    if (locked !== undefined) throw locked
    output.result({
      dryRun: flags.dryRun === true,
      machines: done.map(({ plan, report, ...rest }) => ({ ...rest, ...plan, ...report, plan: undefined })),
    })
  })
}

/** The machines that have rules: without any, a prune would do nothing and look as if it had. */
function chooseMachines(config: Config, name: string | undefined): readonly MachineConfig[] {
  const known = config.machines.map((machine) => machine.name)
  if (name !== undefined && !known.includes(name)) {
    throw new RefpointError('usage', `there is no machine '${name}' in the configuration`, {
      hint: `${config.file} has: ${known.join(', ')}.`,
    })
  }
  const wanted = config.machines.filter((machine) => name === undefined || machine.name === name)
  const chosen = wanted.filter((machine) => machine.keep !== undefined)
  if (chosen.length > 0) return chosen
  const whose = name === undefined ? 'no machine has' : `machine '${name}' has no`
  throw new RefpointError('config', `${whose} rules for which points to keep`, {
    hint: `Nothing was removed. Add them to ${config.file}, such as: keep: { last: 7, daily: 14, weekly: 8, monthly: 12 }`,
    fields: { file: config.file },
  })
}

type Previews = ReadonlyMap<string, Promise<Pruned>>

/** Looks at several machines at once, since nearly all of it is waiting; each is told in its turn. */
function startPreviews(environment: WriteEnvironment, machines: readonly MachineConfig[]): Previews {
  const queue = new PQueue({ concurrency: 8 })
  return new Map(
    machines.map((machine) => {
      const pending = queue.add(() => preview(environment, machine))
      pending.catch(() => {})
      return [machine.name, pending]
    }),
  )
}

async function previewOf(previews: Previews, { name }: MachineConfig): Promise<Pruned> {
  const pending = previews.get(name)
  if (pending === undefined) throw new RangeError(`nobody looks at machine '${name}'`)
  return await pending
}

async function preview(environment: WriteEnvironment, machine: MachineConfig): Promise<Pruned> {
  const { previewPrune } = await import('../operations/prune/prune.js')
  return { machine: machine.name, plan: await previewPrune(environment, requestOf(machine)), report: null }
}

async function pruneOne(
  context: Context,
  environment: WriteEnvironment,
  machine: MachineConfig,
  notes: RunNotes,
): Promise<Pruned> {
  const { pruneMachine } = await import('../operations/prune/prune.js')
  const { name } = machine
  const board = await createProgressBoard(context.output)
  const progress = board.start(name)
  try {
    const onEvent = (event: PruneEvent): void => {
      if (event.type === 'warning') notes.warn(event.message)
      tellEvent(context, event, progress)
    }
    const report = await pruneMachine(environment, requestOf(machine), { signal: context.signal, onEvent })
    notes.fact('dropped_points', report.plan.dropped.length)
    notes.fact('kept_points', report.plan.points.length - report.plan.dropped.length)
    notes.fact('written_bytes', report.writtenBytes)
    notes.fact('freed_bytes', report.freedBytes)
    notes.fact('deferred_bytes', report.deferredBytes)
    return { machine: name, plan: report.plan, report }
  } finally {
    board.stop()
  }
}

function requestOf({ name, keep, compressionLevel }: MachineConfig): PruneRequest {
  if (keep === undefined) throw new RangeError(`machine '${name}' has no rules`)
  return { machine: name, rules: keep.rules, zone: keep.zone, level: compressionLevel }
}

function tellEvent(
  { output }: Context,
  event: PruneEvent,
  progress: { advance(bytes: number): void; total(bytes: number): void },
): void {
  switch (event.type) {
    case 'written':
      progress.advance(event.bytes)
      return
    case 'plan':
      progress.total(event.plan.folds.flatMap(({ members }) => members).reduce((sum, slot) => sum + bytesOf(event.plan, slot), 0))
      return
    case 'warning':
      output.note(`${event.machine}: warning: ${event.message}`)
      output.event(event)
      return
    case 'step':
    case 'fold':
      output.event(event)
  }
}

function bytesOf(plan: PrunePlan, slot: number): number {
  return plan.points.find(({ point }) => point === slot)?.archiveBytes ?? 0
}

function tellPruned({ output }: Context, { machine, plan, report }: Pruned): void {
  const intoWhich = new Map(plan.folds.flatMap(({ target, members }) => members.slice(1).map((slot) => [slot, target])))
  const table = formatTable(
    [{ title: 'point', align: 'right' }, { title: 'time' }, { title: 'stored', align: 'right' }, { title: 'what and why' }],
    plan.points.map((point) => [
      `#${point.point}`,
      formatTime(point.time),
      formatBytes(point.archiveBytes),
      describeFate(point, intoWhich.get(point.point)),
    ]),
  )
  const stay = plan.points.length - plan.dropped.length
  output.line(`${machine}: ${stay} points stay, ${plan.dropped.length} go`)
  for (const row of table) output.line(`  ${row}`)
  output.line(`  ${describeSpace(plan, report)}`)
}

function describeFate({ fate, reasons, neededBy, damaged, folded }: PointFate, into: number | undefined): string {
  const notes = [...(folded ? ['folded'] : []), ...(damaged ? ['damaged'] : [])]
  const note = notes.length === 0 ? '' : ` (${notes.join(', ')})`
  if (fate === 'goes') return into === undefined ? `goes${note}` : `goes, what others need of it into #${into}${note}`
  if (reasons.length > 0) return `stays: ${reasons.join(', ')}${note}`
  return `stays for now: needed by ${neededBy.map((slot) => `#${slot}`).join(', ')}${note}`
}

function describeSpace({ dropped, freesBytes }: PrunePlan, report: PruneReport | null): string {
  if (dropped.length === 0) return 'nothing to do'
  if (report === null) {
    const { atLeast, atMost } = freesBytes
    const amount = atLeast === atMost ? formatBytes(atMost) : `${formatBytes(atLeast)} to ${formatBytes(atMost)}`
    return `would free ${amount}; nothing was changed (--dry-run)`
  }
  const later =
    report.deferredObjects === 0
      ? ''
      : `, ${formatBytes(report.deferredBytes)} more later: ${report.deferredFor.join('; ')}`
  const wrote = report.writtenBytes === 0 ? '' : `, ${formatBytes(report.writtenBytes)} written anew`
  return `freed ${formatBytes(report.freedBytes)}${wrote}${later}`
}

function someFailed(failures: readonly { readonly machine: string; readonly error: unknown }[], count: number): Error {
  const names = failures.map(({ machine }) => machine).join(', ')
  return new RefpointError('machines-failed', `${failures.length} of ${count} machines failed: ${names}`, {
    hint: 'Each is told above; nothing of them was changed. The others are pruned.',
    fields: { failed: failures.map(({ machine, error }) => ({ machine, ...describeError(error) })) },
  })
}
