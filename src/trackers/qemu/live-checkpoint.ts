import type { Consistency } from '../../model/reference-point.js'
import type { Checkpoint, MachineFile } from '../tracker.js'
import { removeAreaFiles } from './fleecing-area.js'
import type { LiveStore } from './live-store.js'
import type { Monitor } from './monitor.js'
import { removeStaleSockets } from './nbd-socket.js'
import { nodesReply } from './replies.js'
import type { Session } from './session.js'
import { tearDown } from './teardown.js'

export interface LiveCheckpointOptions {
  readonly session: Session
  readonly prefix: string
  readonly tag: string
  readonly folder: string
  readonly time: Date
  readonly consistency: Consistency
  readonly stores: readonly LiveStore[]
  readonly warnings: readonly string[]
  readonly files: readonly MachineFile[]
  readonly ended: () => void
}

/** The frozen instant of a running machine. */
export class LiveCheckpoint implements Checkpoint {
  readonly time: Date
  readonly consistency: Consistency
  readonly stores: readonly LiveStore[]
  readonly warnings: readonly string[]
  readonly files: readonly MachineFile[]
  readonly session: Session
  readonly #options: LiveCheckpointOptions
  #disposed: Promise<void> | undefined

  constructor(options: LiveCheckpointOptions) {
    this.time = options.time
    this.consistency = options.consistency
    this.stores = options.stores
    this.warnings = options.warnings
    this.files = options.files
    this.session = options.session
    this.#options = options
  }

  /**
   * What QEMU answered from the frozen view is of the instant: when the view breaks, it answers no more. Only the end of
   * a disk that was cut off meanwhile is in nobody's keeping.
   */
  async assertStable(): Promise<void> {
    await ifRunning(this.session, async (monitor) => {
      const nodes = await monitor.ask(nodesReply, 'query-named-block-nodes', { flat: true })
      const sizes = new Map(nodes.map((node) => [node['node-name'], node.image['virtual-size']]))
      for (const store of this.stores) store.assertSize(sizes.get(store.node))
    })
  }

  [Symbol.asyncDispose](): Promise<void> {
    return (this.#disposed ??= this.#dispose())
  }

  async #dispose(): Promise<void> {
    const { session, prefix, tag, folder, ended } = this.#options
    ended()
    try {
      for (const store of this.stores) await store.close()
      await takeOut(session, { prefix, tag, folder })
    } finally {
      await session[Symbol.asyncDispose]()
      await removeStaleSockets()
    }
  }
}

/** Removes all traces of an owner's runs from QEMU, or, when QEMU is gone, what is left of them in the file system. */
export async function takeOut(
  session: Session,
  { prefix, tag, folder }: { readonly prefix: string; readonly tag: string; readonly folder: string },
): Promise<void> {
  await ifRunning(session, (monitor) => tearDown(monitor, { prefix, tag, qemu: session.qemu }))
  await removeAreaFiles(folder, prefix)
}

/** Does something to QEMU, or nothing when QEMU has ended, or ends meanwhile: what it held is gone then. */
export async function ifRunning(session: Session, task: (monitor: Monitor) => Promise<unknown>): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    const monitor = await session.reconnected().catch(() => undefined)
    if (monitor === undefined) return
    try {
      await task(monitor)
      return
    } catch (error) {
      if (!monitor.client.lost || tries === 2) throw error
    }
  }
}
