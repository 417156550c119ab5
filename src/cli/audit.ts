import { RefpointError } from '../model/errors.js'
import type { AuditFinding } from '../operations/audit/audit-machine.js'
import { type Context, type GlobalOptions, readConfig } from './context.js'
import { formatBytes, formatDuration } from './format.js'
import { createProgressBoard } from './progress.js'
import { withRunsOn } from './reported-runs.js'

export interface AuditFlags extends GlobalOptions {
  readonly full?: boolean
}

/** `refpoint audit <machine>`: are the blocks unchanged that the tracker calls unchanged? */
export async function audit(context: Context, name: string, flags: AuditFlags): Promise<void> {
  const { output, signal } = context
  const config = await readConfig(context, flags)
  const machineConfig = config.machines.find((machine) => machine.name === name)
  if (machineConfig === undefined) {
    throw new RefpointError('usage', `there is no machine '${name}' in the configuration`, {
      hint: `${config.file} has: ${config.machines.map((machine) => machine.name).join(', ')}.`,
    })
  }
  const { bytes, milliseconds } = machineConfig.audit
  if (flags.full !== true && (bytes === 0 || milliseconds === 0)) {
    throw new RefpointError('usage', `the audit of machine '${name}' is turned off: its budget is zero`, {
      hint: 'Say --full to check every block, or give it a budget in the configuration (audit: { bytes, seconds }).',
    })
  }
  const services = await context.services()
  const repository = await services.buildRepository(
    flags.repository === undefined ? config.repository : { path: flags.repository },
  )
  const { auditMachine } = await import('../operations/audit/audit-machine.js')
  await withRunsOn(context, { repository, settings: config, config }, 'audit', async ({ environment, runs }) => {
    const board = await createProgressBoard(output)
    const progress = board.start(name)
    try {
      await runs.run('audit', name, async (notes) => {
        const machine = await services.buildMachine(machineConfig)
        try {
          const report = await auditMachine(environment, machine, {
            whole: flags.full === true,
            signal,
            onTotal: (total) => progress.total(total),
            onBytes: (read) => progress.advance(read),
            onWarning: (message) => {
              notes.warn(message)
              output.note(`${name}: warning: ${message}`)
              output.event({ type: 'warning', machine: name, message })
            },
          })
          board.stop()
          for (const store of report.stores) output.line(`${name}: ${describe(store)}`)
          throwIfCaught(name, report.manifest.point, report.stores)
          const { point, against, durationMs } = report.manifest
          output.line(`${name}: audit #${point} against point #${against} took ${formatDuration(durationMs)}`)
          output.result({ ...report.manifest, stores: report.stores })
        } finally {
          await machine.tracker[Symbol.asyncDispose]()
        }
      })
    } finally {
      board.stop()
    }
  })
}

function describe(store: AuditFinding): string {
  if (store.kind === 'not-tracked') return `${store.name} was not audited: ${store.why}`
  const { name, checkedBlocks, whole, readBytes, missedBlocks, distrust, trustedAgain } = store
  const extent = whole ? 'all' : 'some'
  const checked = `${name}: checked ${extent} of what its tracker calls unchanged: ${checkedBlocks} blocks, ${formatBytes(readBytes)} read`
  if (missedBlocks > 0) return `${checked}; its tracker ${distrust?.what ?? ''}`
  if (trustedAgain) return `${checked}; all are what they were, so the tracker is trusted again`
  if (distrust !== null) return `${checked}; none was missed, but its tracker is still not trusted (say --full)`
  return `${checked}; all are what they were`
}

function throwIfCaught(machine: string, audit: number, stores: readonly AuditFinding[]): void {
  const caught = stores.filter((store) => store.kind === 'audited' && store.missedBlocks > 0)
  if (caught.length === 0) return
  throw new RefpointError(
    'tracker',
    `the tracker of machine '${machine}' missed changes of ${caught.map(({ name }) => `'${name}'`).join(', ')}`,
    {
      hint: `Points may lack changes since their disk was last compared or stored in full. Run 'refpoint backup ${machine}' now: it compares, so that its point is right. Then find out why the tracker was wrong.`,
      fields: { machine, audit, stores },
    },
  )
}
