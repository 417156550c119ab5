import { RefpointError } from '../../model/errors.js'
import { type BackingLayer, fingerprintChain } from '../bitmaps/backing-chain.js'
import { type BitmapState, parseBitmapChangeId } from '../bitmaps/change-id.js'
import { ownerTag, parseBitmapName } from '../bitmaps/names.js'
import type { Owner } from '../tracker.js'
import { assertRoomForBitmaps } from './bitmap-room.js'
import { openNode, reopenNode } from './block-nodes.js'
import { ownerOf } from './image-owner.js'
import { readNodes } from './node-info.js'
import { type CheckedImage, checkPinnedImage, type PinnedImage } from './pinned-image.js'
import { StorageDaemon } from './storage-daemon.js'

/** How long a locked image is asked for again. */
const lockPatienceMs = 3000

export interface OpenDisk {
  readonly store: string
  readonly node: string
  readonly image: CheckedImage
  readonly sizeBytes: number
  /** `fingerprintChain` of what is below its image, from before it was opened. */
  readonly below: string
  /** As they were when it was opened, by name. */
  readonly bitmaps: ReadonlyMap<string, BitmapState>
}

/**
 * The images of a machine, open in a storage daemon of ours and thereby locked: no machine can start on them, and no
 * other run can open them.
 */
export class OpenDisks implements AsyncDisposable {
  readonly daemon: StorageDaemon
  readonly disks: readonly OpenDisk[]

  private constructor(daemon: StorageDaemon, disks: readonly OpenDisk[]) {
    this.daemon = daemon
    this.disks = disks
  }

  /**
   * Opens all of them for writing.
   * @throws RefpointError `locked` when somebody has one open, `tracker` when one can't be opened.
   */
  static async open(images: Readonly<Record<string, PinnedImage>>, signal: AbortSignal): Promise<OpenDisks> {
    const checked: Pick<OpenDisk, 'store' | 'image' | 'below'>[] = []
    for (const [store, pin] of Object.entries(images)) {
      const image = checkPinnedImage(store, pin)
      checked.push({ store, image, below: await fingerprintChain(layersBelow(pin)) })
    }
    for (const { store, image } of checked) await assertRoomForBitmaps(store, image)
    const daemon = await StorageDaemon.start(ownerOf(Object.values(images)), signal)
    try {
      const deadline = performance.now() + lockPatienceMs
      for (const [index, { store, image }] of checked.entries()) {
        await openUnlocked(daemon, store, nodeName(index), image, deadline, signal)
      }
      const named = checked.map((disk, index) => ({ ...disk, node: nodeName(index) }))
      return new OpenDisks(daemon, await look(daemon, named))
    } catch (error) {
      await daemon[Symbol.asyncDispose]()
      throw error
    }
  }

  /** Makes all of them read-only, which saves their bitmaps, or writable again. They stay locked. */
  async reopen(options: { readonly readOnly: boolean }): Promise<void> {
    const nodes = this.disks.map(({ node, image }) => reopenNode(node, image.pin, options))
    await this.daemon.execute('blockdev-reopen', { options: nodes })
  }

  /** The disks with the bitmaps that they have by now. */
  async now(): Promise<readonly OpenDisk[]> {
    return await look(this.daemon, this.disks)
  }

  async transaction(actions: readonly object[]): Promise<void> {
    if (actions.length > 0) await this.daemon.execute('transaction', { actions })
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.daemon[Symbol.asyncDispose]()
  }
}

/** Whether a disk's image can keep dirty bitmaps at all. */
export function keepsBitmaps({ image }: OpenDisk): boolean {
  return image.header.version >= 3
}

/**
 * Actions that remove the owner's bitmaps of all instants but those that the change IDs tell: of points that a newer
 * one took the place of, and of runs that failed or were killed.
 */
export function removals(disks: readonly OpenDisk[], owner: Owner, changeIds: Readonly<Record<string, string>>): object[] {
  const tag = ownerTag(owner)
  const kept = new Set(Object.values(changeIds).flatMap(instantOf))
  return disks.flatMap(({ node, bitmaps }) =>
    [...bitmaps.keys()].flatMap((name) => {
      const parsed = parseBitmapName(name)
      if (parsed === undefined || parsed.owner !== tag || (!parsed.frozen && kept.has(parsed.instant))) return []
      return [{ type: 'block-dirty-bitmap-remove', data: { node, name } }]
    }),
  )
}

function instantOf(changeId: string): string[] {
  try {
    return [parseBitmapChangeId(changeId).instant]
  } catch {
    return []
  }
}

function layersBelow({ backing }: PinnedImage): BackingLayer[] {
  return backing === undefined ? [] : [{ format: backing.format, path: backing.path }, ...layersBelow(backing)]
}

function nodeName(index: number): string {
  return `disk${index}`
}

async function look(
  daemon: StorageDaemon,
  disks: readonly Pick<OpenDisk, 'store' | 'node' | 'image' | 'below'>[],
): Promise<readonly OpenDisk[]> {
  const nodes = readNodes(await daemon.execute('query-named-block-nodes', { flat: true }))
  return disks.map(({ store, node, image, below }) => {
    const info = nodes.get(node)
    if (info === undefined) throw new RefpointError('tracker', `qemu-storage-daemon lost the image of store ${store}`)
    return { store, node, image, below, ...info }
  })
}

/** Waits for the storage daemon of a run that was killed just now, which is still saving its bitmaps. */
async function openUnlocked(
  daemon: StorageDaemon,
  store: string,
  node: string,
  image: CheckedImage,
  deadline: number,
  signal: AbortSignal,
): Promise<void> {
  for (;;) {
    signal.throwIfAborted()
    try {
      await openDisk(daemon, store, node, image)
      return
    } catch (error) {
      if (!(error instanceof RefpointError && error.code === 'locked') || performance.now() > deadline) throw error
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }
}

async function openDisk(daemon: StorageDaemon, store: string, node: string, { pin }: CheckedImage): Promise<void> {
  try {
    await daemon.execute('blockdev-add', openNode(node, pin, { readOnly: false }))
  } catch (cause) {
    const reason = cause instanceof RefpointError ? cause.fields['reason'] : undefined
    if (typeof reason !== 'string') throw cause
    const fields = { store, path: pin.path }
    if (/Failed to get .*lock/.test(reason)) {
      throw new RefpointError('locked', `store ${store}: ${pin.path} is in use: QEMU, or another backup, holds its lock`, {
        hint: 'A machine that runs is backed up through its QMP socket (tracker: qemu). Else wait until it is shut down.',
        cause,
        fields,
      })
    }
    throw new RefpointError('tracker', `store ${store}: ${pin.path} can't be opened: ${reason}`, {
      hint: 'To keep track of its changes, the image is opened for writing: check its rights, and the disk under it.',
      cause,
      fields,
    })
  }
}
