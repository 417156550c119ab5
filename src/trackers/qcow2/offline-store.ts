import { ChangeIdExpired } from '../../model/errors.js'
import type { Range } from '../../model/extent.js'
import { connectNbd, type NbdClient } from '../../nbd/client.js'
import { assertAnswerable, parseBitmapChangeId } from '../bitmaps/change-id.js'
import { formatBitmapName } from '../bitmaps/names.js'
import { allocation, allocationContext, dirtyBitmapContext, dirtyRanges } from '../bitmaps/status-pages.js'
import type { CheckpointStore } from '../tracker.js'
import { keepsBitmaps, type OpenDisk } from './open-disks.js'

export interface OfflineStoreInput {
  readonly disk: OpenDisk
  readonly changeId: string | undefined
  /** Of the owner, as in its bitmaps' names. */
  readonly ownerTag: string
  /** Where the disk is exported, under its node's name. */
  readonly nbdPath: string
}

/** A disk of a checkpoint, read through the export of our storage daemon. Dispose of it before the export. */
export class OfflineStore implements CheckpointStore, AsyncDisposable {
  readonly name: string
  readonly sizeBytes: number
  readonly logicalBlockBytes = 512
  readonly changeId: string | undefined
  readonly source
  readonly #input: OfflineStoreInput
  readonly #clients = new Map<string, Promise<NbdClient>>()

  constructor(input: OfflineStoreInput) {
    const { disk, changeId, nbdPath } = input
    this.#input = input
    this.name = disk.store
    this.sizeBytes = disk.sizeBytes
    this.changeId = changeId
    this.source = {
      kind: 'nbd',
      sizeBytes: disk.sizeBytes,
      path: nbdPath,
      exportName: disk.node,
      refusalHint: 'The image, or the disk under it, is damaged there. qemu-img check and dmesg tell more.',
    } as const
  }

  async changedExtents(
    since: string,
    options: { readonly signal: AbortSignal },
  ): Promise<AsyncIterable<readonly Range[]>> {
    const { disk, ownerTag } = this.#input
    if (!keepsBitmaps(disk)) {
      throw new ChangeIdExpired('untracked', 'a qcow2 image of version 2 keeps no dirty bitmaps')
    }
    const asked = parseBitmapChangeId(since)
    const name = formatBitmapName({ owner: ownerTag, instant: asked.instant, frozen: false })
    assertAnswerable(asked, disk.bitmaps.get(name), disk)
    const context = dirtyBitmapContext(name)
    return dirtyRanges(await this.#client(context), context, disk.sizeBytes, options)
  }

  async *allocatedExtents(range: Range, options: { readonly signal: AbortSignal }) {
    yield* allocation(await this.#client(allocationContext), range, options)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const clients = [...this.#clients.values()]
    this.#clients.clear()
    for (const client of await Promise.allSettled(clients)) {
      if (client.status === 'fulfilled') await client.value.disconnect()
    }
  }

  /** One connection for each context that is asked for: a server answers for all that were agreed on, at a cost. */
  #client(context: string): Promise<NbdClient> {
    const { disk, nbdPath } = this.#input
    let client = this.#clients.get(context)
    if (client === undefined) {
      client = connectNbd({ path: nbdPath }, { exportName: disk.node, contexts: [context] })
      this.#clients.set(context, client)
    }
    return client
  }
}
