import { RefpointError } from '../../model/errors.js'
import type { ReferencePoint } from '../../model/reference-point.js'
import { formatBitmapChangeId } from '../bitmaps/change-id.js'
import { defaultGranularityBytes } from '../bitmaps/granularity.js'
import { formatBitmapName, newInstant, ownerTag, parseBitmapName } from '../bitmaps/names.js'
import type { Checkpoint, Owner } from '../tracker.js'
import { OfflineStore } from './offline-store.js'
import { keepsBitmaps, type OpenDisk, type OpenDisks, removals } from './open-disks.js'

export interface OfflineCheckpointOptions {
  readonly owner: Owner
  readonly previous: ReferencePoint | undefined
  readonly granularityBytes: number | undefined
}

/*
 * The state of a disk's bitmaps, P of the point before and N of this one, both recording all the while:
 *
 *   step                 open     bitmaps afterwards          if it ends here
 *   1 opened             written  P, leftovers                nothing was done
 *   2 one transaction    written  P, N                        N is a leftover of the next run
 *   3 read               only     P, N                        the same; P tells all that the next run asks
 *   4 committed          only     P, N                        the next run goes on from N, and removes P
 *   5 released           written  N
 *
 * The images stay locked from 1 to 5, so nothing is written that a bitmap could miss. They are open for writing only
 * in 2 and 5: a power cut there makes bitmaps inconsistent, which is told, and the disk compared.
 */
export class OfflineCheckpoint implements Checkpoint {
  readonly time = new Date()
  readonly consistency = 'offline'
  readonly stores: readonly OfflineStore[]
  readonly warnings: readonly string[]
  readonly files = []
  readonly #open: OpenDisks
  #exported = true
  #disposed = false

  private constructor(open: OpenDisks, stores: readonly OfflineStore[], warnings: readonly string[]) {
    this.#open = open
    this.stores = stores
    this.warnings = warnings
  }

  /** Takes over the open disks, whatever happens. */
  static async take(open: OpenDisks, options: OfflineCheckpointOptions): Promise<OfflineCheckpoint> {
    try {
      const changeIds = await begin(open, options)
      await open.reopen({ readOnly: true })
      await open.daemon.serveNbd()
      const tag = ownerTag(options.owner)
      const stores: OfflineStore[] = []
      for (const disk of await open.now()) {
        const bitmaps = answering(disk, tag)
        await open.daemon.execute('block-export-add', {
          type: 'nbd',
          id: disk.node,
          'node-name': disk.node,
          name: disk.node,
          writable: false,
          bitmaps,
        })
        const changeId = changeIds.get(disk.store)
        stores.push(new OfflineStore({ disk, changeId, ownerTag: tag, nbdPath: open.daemon.nbdPath }))
      }
      return new OfflineCheckpoint(open, stores, warningsOf(open.disks))
    } catch (error) {
      await open[Symbol.asyncDispose]()
      throw error
    }
  }

  async assertStable(): Promise<void> {
    if (!this.#open.daemon.lost) return
    throw new RefpointError('tracker', 'qemu-storage-daemon, which held the images locked, ended', {
      hint: 'Nothing was committed. Run the backup again.',
    })
  }

  get ended(): boolean {
    return this.#disposed
  }

  /** Removes the bitmaps of the owner that `committed` does not need. Nothing can be read afterwards. */
  async release(committed: ReferencePoint, owner: Owner): Promise<void> {
    await this.#endReading()
    await this.#open.reopen({ readOnly: false })
    const disks = await this.#open.now()
    await this.#open.transaction(removals(disks, owner, committed.changeIds))
    await this.#open.reopen({ readOnly: true })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#disposed) return
    this.#disposed = true
    for (const store of this.stores) await store[Symbol.asyncDispose]()
    await this.#open[Symbol.asyncDispose]()
  }

  /** A bitmap that is exported can't be removed. */
  async #endReading(): Promise<void> {
    if (!this.#exported) return
    this.#exported = false
    for (const store of this.stores) await store[Symbol.asyncDispose]()
    for (const { node } of this.#open.disks) await this.#open.daemon.removeExport(node)
  }
}

/** Step 2: begins this point's bitmaps, and removes what runs of the owner left. Change IDs by store. */
async function begin(
  open: OpenDisks,
  { owner, previous, granularityBytes }: OfflineCheckpointOptions,
): Promise<ReadonlyMap<string, string>> {
  const changeIds = new Map<string, string>()
  const added = open.disks.filter(keepsBitmaps).map(({ store, node, sizeBytes, below }) => {
    const granularity = granularityBytes ?? defaultGranularityBytes(sizeBytes)
    const instant = newInstant()
    changeIds.set(store, formatBitmapChangeId({ instant, granularityBytes: granularity, sizeBytes, below }))
    const name = formatBitmapName({ owner: ownerTag(owner), instant, frozen: false })
    return { type: 'block-dirty-bitmap-add', data: { node, name, granularity, persistent: true } }
  })
  await open.transaction([...removals(open.disks, owner, previous?.changeIds ?? {}), ...added])
  return changeIds
}

/** Names of the owner's bitmaps that can tell changes. */
function answering({ bitmaps }: OpenDisk, tag: string): string[] {
  return [...bitmaps].flatMap(([name, { recording, inconsistent }]) => {
    const parsed = parseBitmapName(name)
    return parsed?.owner === tag && !parsed.frozen && recording && !inconsistent ? [name] : []
  })
}

function warningsOf(disks: readonly OpenDisk[]): string[] {
  return disks
    .filter((disk) => !keepsBitmaps(disk))
    .map(
      ({ store, image }) =>
        `store ${store}: ${image.pin.path} is a qcow2 image of version 2, in which nothing keeps track of changes; ` +
        "'qemu-img amend -f qcow2 -o compat=1.1' makes it one of version 3",
    )
}
