import { resolve } from 'node:path'
import type { Config } from '../config/config.js'
import { RefpointError } from '../model/errors.js'
import { type CopyChoice, choosePoints } from '../operations/copy/choose-points.js'
import type { CopyEnvironment, CopyReport } from '../operations/copy/copy-machine.js'
import type { RunNotes } from '../operations/runs/run-reporter.js'
import { hasMachine, listMachines } from '../repository/machine.js'
import { openRepository } from '../repository/open.js'
import type { PruneRepository } from '../repository/repository.js'
import { type Context, findRepository, type GlobalOptions } from './context.js'
import { formatBytes } from './format.js'
import { createProgressBoard } from './progress.js'
import { withRunsOn } from './reported-runs.js'
import { describeError } from './report-error.js'

export interface CopyFlags extends GlobalOptions {
  readonly to: string
  readonly last?: number
  readonly byRules?: boolean
}

/** `refpoint copy [machine…] --to <repository>`: machine after machine; one that fails does not keep the others from it. */
export async function copy(context: Context, names: readonly string[], flags: CopyFlags): Promise<void> {
  const { output, signal } = context
  const found = await findRepository(context, flags)
  const services = await context.services()
  const target = await services.buildRepository(targetOf(context, found.config, flags.to))
  const to = found.config === undefined ? target : await services.limitWrites(target, found.config.limits)
  const { copyMachine } = await import('../operations/copy/copy-machine.js')
  await withRunsOn(context, found, 'copy', async ({ environment, runs }) => {
    const machines = await chooseMachines(found.repository, names)
    const { id: repositoryId } = await openRepository(to)
    const { repository, command, agent } = environment
    const copying: CopyEnvironment = {
      from: { repository, repositoryId: environment.repositoryId },
      to: { repository: to, repositoryId },
      command,
      agent,
    }
    const reports: CopyReport[] = []
    const failures: { readonly machine: string; readonly error: unknown }[] = []
    const board = await createProgressBoard(output)
    try {
      for (const machine of machines) {
        const choice = choiceOf(found.config, machine, flags)
        const progress = board.start(machine)
        try {
          await runs.run('copy', machine, async (notes) => {
            const report = await copyMachine(
              copying,
              { machine, choose: (points) => choosePoints(points, choice) },
              {
                signal,
                onTotal: (bytes) => progress.total(bytes),
                onBytes: (bytes) => progress.advance(bytes),
                onCopied: (point, bytes) => output.event({ type: 'copied', machine, point, bytes }),
                onDamage: (damage) => {
                  output.note(`damaged: machine '${machine}': ${damage.what} [${damage.object}]`)
                  output.event({ type: 'damaged', ...damage })
                },
              },
            )
            reports.push(report)
            tell(context, to, report, notes)
            throwIfDamaged(report)
          })
        } catch (error) {
          if (machines.length === 1 || signal.aborted) throw error
          failures.push({ machine, error })
          output.note(`${machine}: failed: ${describeError(error).message}`)
        } finally {
          progress.done()
        }
      }
    } finally {
      board.stop()
    }
    if (failures.length > 0) throw someFailed(failures, reports, machines.length)
    output.result({ to: to.description, machines: reports })
  })
}

/** A name of the configuration, else a folder. */
function targetOf({ cwd }: Context, config: Config | undefined, to: string): { readonly path: string } {
  return config?.otherRepositories[to] ?? { path: resolve(cwd, to) }
}

async function chooseMachines(repository: PruneRepository, names: readonly string[]): Promise<readonly string[]> {
  const known = await listMachines(repository)
  for (const name of names) {
    if (await hasMachine(repository, name)) continue
    throw new RefpointError('usage', `there is no machine '${name}' in ${repository.description}`, {
      hint: known.length === 0 ? 'It has none yet: nothing was backed up.' : `It has: ${known.join(', ')}.`,
      fields: { machine: name },
    })
  }
  return names.length === 0 ? known : [...new Set(names)]
}

function choiceOf(config: Config | undefined, machine: string, { last, byRules }: CopyFlags): CopyChoice {
  if (last !== undefined) return { kind: 'last', count: last }
  if (byRules !== true) return { kind: 'all' }
  const keep = config?.machines.find(({ name }) => name === machine)?.keep
  if (keep !== undefined) return { kind: 'rules', ...keep }
  throw new RefpointError('config', `machine '${machine}' has no rules for which points to keep`, {
    hint: "Add them to the configuration, such as keep: { last: 7, daily: 14 }, or copy without --by-rules.",
    fields: { machine },
  })
}

function tell({ output }: Context, to: PruneRepository, report: CopyReport, notes: RunNotes): void {
  const { machine, copied, copiedBytes, there, notCopied } = report
  notes.fact('points', copied.length)
  notes.fact('copied_bytes', copiedBytes)
  const missing = notCopied.length === 0 ? '' : `, ${notCopied.length} could not be copied`
  output.line(
    `${machine}: copied ${copied.length} points (${formatBytes(copiedBytes)}) to ${to.description}; ${there.length} were there${missing}`,
  )
}

function throwIfDamaged({ machine, damage, notCopied, copied }: CopyReport): void {
  const [first] = damage
  if (first === undefined && notCopied.length === 0) return
  const points = notCopied.map((point) => `#${point}`).join(', ')
  throw new RefpointError(
    'damaged',
    `machine '${machine}' has damage that was not copied: ${first?.what ?? 'points are missing'}` +
      (points === '' ? '' : `; not in the copy: ${points}`),
    {
      hint: `Everything else was copied. 'refpoint verify ${machine}' tells all that is damaged. What the copy has can be restored from it.`,
      fields: { machine, damage, notCopied, copied },
    },
  )
}

function someFailed(
  failures: readonly { readonly machine: string; readonly error: unknown }[],
  reports: readonly CopyReport[],
  count: number,
): RefpointError {
  const message = `${failures.length} of ${count} machines failed: ${failures.map(({ machine }) => machine).join(', ')}`
  return new RefpointError('machines-failed', message, {
    hint: 'Each is told above. What was copied of the others is there.',
    fields: {
      failed: failures.map(({ machine, error }) => ({ machine, ...describeError(error) })),
      copied: reports.map(({ machine, copied }) => ({ machine, points: copied })),
    },
  })
}
