import { RefpointError } from '../../../model/errors.js'
import { connectGuestAgent } from '../../../qmp/guest-agent.js'
import { ownerTag } from '../../bitmaps/names.js'
import type { Doctor, ExamineOptions, Finding } from '../../doctor.js'
import { instantsOf, removeBitmaps } from '../disk-bitmaps.js'
import { findDisks, type LiveDisk } from '../disks.js'
import { removeAreaFiles } from '../fleecing-area.js'
import { findRoom } from '../fleecing-room.js'
import { iothreadHint, servedByIothreads } from '../iothreads.js'
import { describeMachine } from '../machine/describe.js'
import { planStart } from '../machine/start/rewrite.js'
import { StartRefused } from '../machine/start/rewriting.js'
import { ownerPrefix } from '../names.js'
import { removeStaleSockets } from '../nbd-socket.js'
import type { QemuTrackerOptions } from '../qemu-tracker.js'
import { openSession, type Session } from '../session.js'
import { tearDown } from '../teardown.js'
import { examineDisks, examineOthers } from './examine-disks.js'
import { countOthers, findLeftovers } from './leftovers.js'

/** Looks at a running machine, as the tracker of the same options would find it. */
export function createQemuDoctor(options: QemuTrackerOptions): Doctor {
  return {
    async examine(asked) {
      await using session = await openSession({ qmp: options.qmp, waitMs: options.waitMs, signal: asked.signal })
      return await examine(session, options, asked)
    },
    async fix({ owner, previous, signal }) {
      await using session = await openSession({ qmp: options.qmp, waitMs: options.waitMs, signal })
      const { monitor, qemu } = session
      const { disks } = await findDisks(session, options.exclude)
      const [tag, prefix, keep] = [ownerTag(owner), ownerPrefix(owner), instantsOf(previous)]
      const folder = await findRoom(options.fleecing, disks, qemu).then(
        (room) => room.folder,
        () => undefined,
      )
      const before = await findLeftovers(monitor, { prefix, tag, keep, folder })
      await tearDown(monitor, { prefix, tag, qemu })
      await removeBitmaps(monitor, tag, keep)
      if (folder !== undefined) await removeAreaFiles(folder, prefix)
      const after = await findLeftovers(monitor, { prefix, tag, keep, folder })
      // Of QEMUs that have ended: nobody's in particular, and no harm but clutter, so that only removing them is told.
      const folders = (await removeStaleSockets()).map((path) => `folder ${path}`)
      return [...before.filter((name) => !after.includes(name)), ...folders]
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  }
}

async function examine(session: Session, options: QemuTrackerOptions, asked: ExamineOptions): Promise<Finding[]> {
  const { monitor, qemu } = session
  const { owner, previous, signal } = asked
  const tag = owner === undefined ? undefined : ownerTag(owner)
  const prefix = owner === undefined ? undefined : ownerPrefix(owner)
  const { major, minor, micro } = monitor.client.version
  const findings: Finding[] = []
  const say = (level: Finding['level'], topic: string, message: string, hint?: string): void => {
    findings.push({ level, topic, store: null, message, ...(hint === undefined ? {} : { hint }) })
  }
  say('good', 'version', `QEMU ${major}.${minor}.${micro} runs it (process ${qemu.pid}); 7.2 and newer are supported`)

  const { disks, warnings } = await findDisks(session, options.exclude)
  const described = await describeMachine(monitor.client, options.qmp)
  for (const message of warnings) say('problem', 'disk', message)
  for (const name of await servedByIothreads(monitor, disks)) {
    say('problem', 'disk', `${name}: can't be backed up live: it has a thread of its own in QEMU (iothread)`, iothreadHint)
  }
  findings.push(...examineDisks(disks, { tag, previous }), ...examineOthers(described.disks, disks, options.exclude))
  findings.push(await examineAgent(options.agent, signal), await examineRoom(options, disks, session, signal))

  const { document, warnings: missing } = await described.copy(
    new Map(disks.map((d) => [d.device, d.name])),
    new Date(),
  )
  for (const message of missing) say('problem', 'machine', message)
  try {
    planStart(
      document,
      disks.map(({ name, format }) => ({ store: name, file: `${name}.${format}`, format })),
    )
    say('good', 'start', 'a restore makes a start.sh that starts the machine')
  } catch (error) {
    if (!(error instanceof StartRefused)) throw error
    for (const reason of error.reasons) say('note', 'start', `a restore makes no start.sh: ${reason}`)
  }

  if (tag !== undefined && prefix !== undefined) {
    const folder = await findRoom(options.fleecing, disks, qemu).then(
      (room) => room.folder,
      () => undefined,
    )
    const left = await findLeftovers(monitor, { prefix, tag, keep: instantsOf(previous), folder })
    if (left.length > 0) {
      say(
        'problem',
        'leftovers',
        `killed runs left: ${left.join(', ')}`,
        'The next backup removes them, and so does --fix.',
      )
    } else say('good', 'leftovers', 'killed runs left nothing')
  }
  const others = await countOthers(monitor, tag, prefix)
  if (others > 0) say('note', 'leftovers', `${others} dirty bitmaps or nodes are other repositories', and left alone`)
  return findings
}

async function examineAgent(agent: string | undefined, signal: AbortSignal): Promise<Finding> {
  const about = { topic: 'agent', store: null }
  if (agent === undefined) {
    const message = 'no guest agent is configured: points are what a power cut would have left (crash)'
    return {
      ...about,
      level: 'note',
      message,
      hint: "With 'agent: <socket>' the guest's file systems are frozen for the instant.",
    }
  }
  try {
    const connected = await connectGuestAgent(agent, { signal })
    connected.close()
    return { ...about, level: 'good', message: `the guest agent answers at ${agent}` }
  } catch (error) {
    signal.throwIfAborted()
    return { ...about, level: 'problem', ...told(error) }
  }
}

/** What a failure of one thing that was looked at says: the others are told all the same. */
function told(error: unknown): { readonly message: string; readonly hint?: string } {
  if (!(error instanceof Error)) throw error
  if (!(error instanceof RefpointError) || error.hint === undefined) return { message: error.message }
  return { message: error.message, hint: error.hint }
}

async function examineRoom(
  options: QemuTrackerOptions,
  disks: readonly LiveDisk[],
  { qemu }: Session,
  signal: AbortSignal,
): Promise<Finding> {
  const about = { topic: 'room', store: null }
  try {
    const { folder, capBytes } = await findRoom(options.fleecing, disks, qemu)
    const mib = Math.floor(capBytes.reduce((sum, bytes) => sum + bytes, 0) / 1024 ** 2)
    return { ...about, level: 'good', message: `up to ${mib} MiB in ${folder} for what the guest overwrites meanwhile` }
  } catch (error) {
    signal.throwIfAborted()
    return { ...about, level: 'problem', ...told(error) }
  }
}
