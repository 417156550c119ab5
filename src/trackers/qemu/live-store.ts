import { ChangeIdExpired, RefpointError } from '../../model/errors.js'
import type { Range } from '../../model/extent.js'
import type { NbdSource } from '../../model/source.js'
import { connectNbd, type NbdClient } from '../../nbd/client.js'
import { formatBitmapChangeId, parseBitmapChangeId } from '../bitmaps/change-id.js'
import { allocation, allocationContext, dirtyBitmapContext, dirtyRanges } from '../bitmaps/status-pages.js'
import type { CheckpointStore } from '../tracker.js'
import { answering } from './disk-bitmaps.js'
import type { PlannedDisk } from './frozen-disks.js'

export interface LiveStoreOptions {
  readonly planned: PlannedDisk
  readonly tag: string
  readonly socket: string
  readonly exportName: string
  /** The export of the image below the disk's, if it has one. */
  readonly below: string
  /** What to tell when the frozen view broke. */
  readonly refusalHint: string
}

/** One disk of a checkpoint, as QEMU exports it. */
export class LiveStore implements CheckpointStore {
  readonly name: string
  readonly sizeBytes: number
  readonly logicalBlockBytes = 512
  readonly changeId: string
  readonly source: NbdSource
  readonly #planned: PlannedDisk
  readonly #tag: string
  readonly #below: string | undefined
  /** By export and context: each question has a connection of its own, for a server answers all that a connection agreed on. */
  readonly #clients = new Map<string, Promise<NbdClient>>()
  #closed = false

  constructor({ planned, tag, socket, exportName, below, refusalHint }: LiveStoreOptions) {
    const { disk, next } = planned
    this.name = disk.name
    this.sizeBytes = disk.sizeBytes
    this.changeId = formatBitmapChangeId({ ...next, sizeBytes: disk.sizeBytes, below: disk.below })
    this.source = { kind: 'nbd', sizeBytes: disk.sizeBytes, path: socket, exportName, refusalHint }
    this.#planned = planned
    this.#tag = tag
    this.#below = disk.backing === undefined ? undefined : below
  }

  /** The node of the disk's image in QEMU. */
  get node(): string {
    return this.#planned.disk.node
  }

  async changedExtents(since: string, { signal }: { readonly signal: AbortSignal }): Promise<AsyncIterable<readonly Range[]>> {
    signal.throwIfAborted()
    const { disk, previous } = this.#planned
    const asked = answering(parseBitmapChangeId(since), disk, this.#tag)
    // Only the previous reference point's bitmap was frozen for this run.
    if (asked !== previous?.name) throw new ChangeIdExpired('unknown', 'it is not the last committed point')
    const context = dirtyBitmapContext(previous.frozen)
    return dirtyRanges(await this.#connected(context), context, this.sizeBytes, { signal })
  }

  async *allocatedExtents(range: Range, { signal }: { readonly signal: AbortSignal }) {
    const client = await this.#connected(allocationContext)
    const below = this.#below === undefined ? undefined : await this.#connect(this.#below, allocationContext)
    yield* allocation(client, range, { signal, below })
  }

  async close(): Promise<void> {
    this.#closed = true
    // Whoever asked was told what went wrong with a connection.
    await Promise.allSettled([...this.#clients.values()].map(async (client) => await (await client).disconnect()))
  }

  #connect(exportName: string, context: string): Promise<NbdClient> {
    if (this.#closed) throw new RefpointError('tracker', `the checkpoint of ${this.name} has ended`)
    const key = `${exportName} ${context}`
    const connecting =
      this.#clients.get(key) ?? connectNbd({ path: this.source.path }, { exportName, contexts: [context] })
    this.#clients.set(key, connecting)
    return connecting
  }

  async #connected(context: string): Promise<NbdClient> {
    const client = await this.#connect(this.source.exportName, context)
    this.assertSize(client.sizeBytes)
    return client
  }

  /** @throws RefpointError `tracker` when the disk has another size now than when the checkpoint was planned. */
  assertSize(nowBytes: number | undefined): void {
    if (nowBytes === this.sizeBytes) return
    throw new RefpointError('tracker', `disk '${this.name}' was resized or removed while it was backed up`, {
      hint: 'Nothing was committed. Run the backup again.',
      fields: { store: this.name, beforeBytes: this.sizeBytes, nowBytes },
    })
  }
}
