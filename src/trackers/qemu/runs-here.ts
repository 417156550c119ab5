import { RefpointError } from '../../model/errors.js'
import type { Monitor } from './monitor.js'
import { statusReply } from './replies.js'

/** QEMU's states in which the machine's disks are another QEMU's to write, or are about to be. */
const elsewhere: ReadonlyMap<string, string> = new Map([
  ['inmigrate', 'waits for the machine to be moved here'],
  ['finish-migrate', 'is handing the machine over to another QEMU'],
  ['postmigrate', 'has handed the machine over to another QEMU'],
])

/**
 * Makes sure that it is this QEMU that writes to the machine's disks: what another one writes, no bitmap and no filter
 * here sees.
 * @throws RefpointError `tracker`
 */
export async function assertRunsHere(monitor: Monitor): Promise<void> {
  const { status } = await monitor.ask(statusReply, 'query-status')
  const does = elsewhere.get(status)
  if (does === undefined) return
  throw new RefpointError('tracker', `this QEMU ${does} (${status}): its disks are not its own`, {
    hint: 'Nothing was committed. Back the machine up where it runs: give the QMP socket of that QEMU (qmp: …).',
    fields: { status },
  })
}
