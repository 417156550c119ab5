import { addArea } from './fleecing-area.js'
import type { FleecingRoom } from './fleecing-room.js'
import { assertInPlace, type LiveDisk } from './disks.js'
import type { Monitor } from './monitor.js'
import type { RunNames } from './names.js'
import { startNbdServer } from './nbd-socket.js'
import type { QemuIdentity } from './qemu-process.js'
import { flushDevice, throttleOptions } from './teardown.js'

/** One disk in a checkpoint, with the bitmaps that it is about. */
export interface PlannedDisk {
  readonly disk: LiveDisk
  /** The bitmap that begins now. */
  readonly next: { readonly name: string; readonly instant: string; readonly granularityBytes: number }
  /** The bitmap of the previous reference point, when it still tells all changes, and its copy for this run. */
  readonly previous: { readonly name: string; readonly frozen: string } | undefined
}

export interface FreezeDisksOptions {
  readonly monitor: Monitor
  readonly qemu: QemuIdentity
  readonly names: RunNames
  readonly room: FleecingRoom
  readonly disks: readonly PlannedDisk[]
  readonly signal: AbortSignal
  /** Runs `instant` while the guest's file systems stand still, or just so. */
  readonly quiesced: (instant: () => Promise<void>) => Promise<void>
}

/**
 * Freezes one instant of all disks and exports it, each disk as `snap`, with its frozen bitmap. Only the guest's writes
 * at the very instant wait, for as long as it takes to put `cbw` in their way. When it throws, `tearDown` removes what
 * is there; the bitmap of the previous reference point records all the while.
 *
 * A transaction can't put a filter in, so the order makes up for it:
 *
 *   1. a filter that does nothing (`thr`) goes over each disk, which may take any time
 *   2. the next bitmap begins on all disks, before the instant: it tells too much, never too little
 *   3. flush, so that the following has nothing to wait for
 *   4. one reopen puts `cbw` under all those filters: the instant
 *   5. the previous bitmap is copied, after the instant: the copy tells too much, never too little
 *
 * Were 2 after 4, the next run would miss the writes between them; were 5 before 4, this run would.
 *
 * Another program may take a snapshot at any time, or end a block job that moves a disk. `thr` and `cbw` are looked at
 * once both are there: from then on they move together, so that 4 never leads the guest to an image that it has left;
 * and again after 5, since bitmaps do not move along.
 */
export async function freezeDisks(options: FreezeDisksOptions): Promise<Date> {
  const { monitor, names, disks, signal, quiesced } = options
  for (const index of disks.keys()) {
    signal.throwIfAborted()
    await prepare(options, index)
  }
  await monitor.do('transaction', {
    actions: disks.map(({ disk, next }) => ({
      type: 'block-dirty-bitmap-add',
      data: { node: disk.node, name: next.name, granularity: next.granularityBytes, persistent: disk.keepsBitmaps },
    })),
  })
  const places = disks.map(({ disk }, index) => ({ disk, above: [names.of(index, 'thr'), names.of(index, 'cbw')] }))
  await assertInPlace(monitor, places)
  await flushAll(options)
  let time = new Date()
  await quiesced(async () => {
    await flushAll(options)
    signal.throwIfAborted()
    await monitor.do('blockdev-reopen', {
      options: disks.map((_, index) => throttleOptions(names.of(index, 'thr'), names.of(index, 'cbw'))),
    })
    time = new Date()
  })
  await copyBitmaps(monitor, disks)
  await assertInPlace(monitor, places)
  await exportDisks(options)
  return time
}

async function prepare({ monitor, qemu, names, room, disks }: FreezeDisksOptions, index: number): Promise<void> {
  const { disk } = disks[index] ?? {}
  if (disk === undefined) return
  const capBytes = room.capBytes[index] ?? 0
  await addArea({ monitor, names, qemu, folder: room.folder, disk, index, capBytes })
  await monitor.do('object-add', { 'qom-type': 'throttle-group', id: names.of(index, 'grp') })
  await monitor.do('blockdev-add', throttleOptions(names.of(index, 'thr'), disk.root))
  await monitor.do('qom-set', { path: disk.device, property: 'drive', value: names.of(index, 'thr') })
  await monitor.do('blockdev-add', {
    driver: 'copy-before-write',
    'node-name': names.of(index, 'cbw'),
    file: disk.root,
    target: names.of(index, 'tmp'),
    // When the area is full or too slow, the backup fails and the guest goes on.
    'on-cbw-error': 'break-snapshot',
    // Seconds; in QEMU 7.2 more than 4 overflow.
    'cbw-timeout': 1,
  })
}

async function flushAll({ monitor, disks }: FreezeDisksOptions): Promise<void> {
  for (const { disk } of disks) await flushDevice(monitor, disk.device)
}

async function copyBitmaps(monitor: Monitor, disks: readonly PlannedDisk[]): Promise<void> {
  const actions = disks.flatMap(({ disk, previous }) => {
    if (previous === undefined) return []
    const { node } = disk
    const granularity = disk.bitmaps.get(previous.name)?.granularityBytes
    return [
      { type: 'block-dirty-bitmap-add', data: { node, name: previous.frozen, granularity, disabled: true } },
      { type: 'block-dirty-bitmap-merge', data: { node, target: previous.frozen, bitmaps: [previous.name] } },
    ]
  })
  if (actions.length > 0) await monitor.do('transaction', { actions })
}

async function exportDisks({ monitor, qemu, names, disks }: FreezeDisksOptions): Promise<void> {
  await startNbdServer(monitor, qemu)
  for (const [index, { disk, previous }] of disks.entries()) {
    const snap = names.of(index, 'snap')
    await monitor.do('blockdev-add', { driver: 'snapshot-access', 'node-name': snap, file: names.of(index, 'cbw') })
    await monitor.do('block-export-add', {
      type: 'nbd',
      id: snap,
      'node-name': snap,
      name: snap,
      writable: false,
      ...(previous === undefined ? {} : { bitmaps: [{ node: disk.node, name: previous.frozen }] }),
    })
    if (disk.backing === undefined) continue
    const back = names.of(index, 'back')
    await monitor.do('block-export-add', { type: 'nbd', id: back, 'node-name': disk.backing, name: back, writable: false })
  }
}
