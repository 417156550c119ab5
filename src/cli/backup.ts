import PQueue from 'p-queue'
import type { Config, MachineConfig } from '../config/config.js'
import { RefpointError } from '../model/errors.js'
import type { BackupReport } from '../operations/backup/backup.js'
import type { BackupEvent } from '../operations/backup/events.js'
import type { WriteEnvironment } from '../operations/environment.js'
import type { RunNotes } from '../operations/runs/run-reporter.js'
import { type Context, type GlobalOptions, readConfig } from './context.js'
import { caughtTracker, conclude, type MachineFailure, tellFailure } from './backup-outcome.js'
import { describePoint, totals } from './describe-point.js'
import { createProgressBoard, type Progress } from './progress.js'
import { toldAgain } from './quietly-locked.js'
import { withRunsOn } from './reported-runs.js'

export interface BackupFlags extends GlobalOptions {
  readonly all?: boolean
  readonly full?: boolean
  readonly incremental?: boolean
  readonly adopt?: boolean
  readonly quietIfRunning?: boolean
}

/** `refpoint backup [machine…]`: one point of each machine, side by side within the configured concurrency. */
export async function backup(context: Context, names: readonly string[], flags: BackupFlags): Promise<void> {
  if (flags.full === true && flags.incremental === true) {
    throw new RefpointError('usage', '--full and --incremental exclude each other', {
      hint: 'Give one of them, or none.',
    })
  }
  const config = await readConfig(context, flags)
  const machines = chooseMachines(config, names, flags.all === true)
  const services = await context.services()
  const repository = await services.buildRepository(
    flags.repository === undefined ? config.repository : { path: flags.repository },
  )
  await withRunsOn(context, { repository, settings: config, config }, 'backup', async ({ environment, runs }) => {
    const board = await createProgressBoard(context.output)
    const failures: MachineFailure[] = []
    const reports: BackupReport[] = []
    try {
      const queue = new PQueue({ concurrency: config.concurrentMachines })
      await queue.addAll(
        machines.map((machine) => async () => {
          const progress = board.start(machine.name)
          try {
            const take = (notes: RunNotes) => backupOne(context, environment, machine, flags, progress, notes, config.file)
            const within = { limits: config.limits, machine, repository: repository.description }
            const { signal } = context
            const waiting = { signal, onWaiting: (key: string) => progress.phase(`waiting for a place: ${key}`) }
            const run = (): Promise<void> =>
              runs.run('backup', machine.name, async (notes) => {
                const report = await take(notes)
                reports.push(report)
                if (report.distrusted.length > 0) throw caughtTracker([report])
              })
            await services.withinLimits(within, waiting, run)
          } catch (error) {
            const failure = { machine: machine.name, error: toldAgain(error, runs.timesSkipped(machine.name), flags) }
            failures.push(failure)
            if (machines.length > 1) tellFailure(context, failure)
          } finally {
            progress.done()
          }
        }),
      )
    } finally {
      board.stop()
    }
    conclude(context, reports, failures, machines.length)
  })
}

function chooseMachines(config: Config, names: readonly string[], all: boolean): readonly MachineConfig[] {
  const known = config.machines.map((machine) => machine.name)
  const hint = `${config.file} has: ${known.join(', ')}.`
  if (all && names.length > 0) throw new RefpointError('usage', 'machines were named together with --all', { hint })
  if (all) return config.machines
  if (names.length === 0) {
    if (config.machines.length === 1) return config.machines
    throw new RefpointError('usage', 'no machine was named', { hint: `Name machines, or say --all. ${hint}` })
  }
  return [...new Set(names)].map((name) => {
    const machine = config.machines.find((candidate) => candidate.name === name)
    if (machine === undefined)
      throw new RefpointError('usage', `there is no machine '${name}' in the configuration`, { hint })
    return machine
  })
}

async function backupOne(
  context: Context,
  environment: WriteEnvironment,
  config: MachineConfig,
  flags: BackupFlags,
  progress: Progress,
  notes: RunNotes,
  configFile: string,
): Promise<BackupReport> {
  const { output, signal } = context
  const { backupMachine } = await import('../operations/backup/backup.js')
  const services = await context.services()
  const machine = await services.buildMachine(config)
  const hooks = await services.buildHooks({
    machine: config.name,
    hooks: config.hooks,
    configFile,
    repository: environment.repository.description,
    onOutput: (text) => output.note(`${config.name}: ${text}`),
  })
  try {
    const report = await backupMachine(environment, machine, {
      request: flags.full === true ? 'full' : flags.incremental === true ? 'incremental' : 'auto',
      adopt: flags.adopt === true,
      fullEveryMs: config.fullEveryMs,
      signal,
      hooks,
      countFirst: output.interactive || output.json,
      onEvent: (event) => {
        tell(context, event, progress)
        if (event.type === 'warning') notes.warn(event.message)
      },
    })
    noteFacts(report, notes)
    for (const line of describePoint(report.manifest, { perStore: output.interactive })) output.line(line)
    return report
  } finally {
    await machine.tracker[Symbol.asyncDispose]()
  }
}

function noteFacts({ manifest, readBytes, distrusted, history }: BackupReport, notes: RunNotes): void {
  notes.fact('point', manifest.point)
  notes.fact('point_timestamp_seconds', Date.parse(manifest.time) / 1000)
  notes.fact('points', history.points)
  notes.fact('chain_length', history.chainLength)
  notes.fact('changed_bytes', totals(manifest).changedBytes)
  notes.fact('read_bytes', readBytes)
  notes.fact('stored_bytes', manifest.archive.bytes)
  notes.fact('archives_bytes', history.archivesBytes)
  notes.fact('distrusted_stores', distrusted.length)
}

function tell({ output }: Context, event: BackupEvent, progress: Progress): void {
  switch (event.type) {
    case 'read':
      progress.advance(event.bytes)
      return
    case 'total':
      progress.total(event.bytes)
      return
    case 'warning':
      output.note(`${event.machine}: warning: ${event.message}`)
      output.event(event)
      return
    case 'step':
      progress.phase(phases[event.step] ?? '')
      output.event(event)
      return
    case 'trusted-again':
      output.line(`${event.machine}: ${event.message}`)
      output.event(event)
      return
    case 'plan':
      output.event(event)
  }
}

/** What goes on after a step is done. */
const phases: Partial<Record<Extract<BackupEvent, { type: 'step' }>['step'], string>> = {
  locked: 'preparing',
  cleaned: 'taking the checkpoint',
  checkpointed: 'planning',
  planned: 'reading',
  streamed: 'making the archive durable',
  archived: 'committing',
}
