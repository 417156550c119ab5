import { RefpointError } from '../../model/errors.js'
import type { BitmapState } from '../bitmaps/change-id.js'
import { fingerprintBelow } from './backing-layers.js'
import { type BlockGraph, readBlockGraph } from './block-graph.js'
import { openFilesOf } from './machine/open-images.js'
import type { Monitor } from './monitor.js'
import type { QemuIdentity } from './qemu-process.js'
import { type BitmapReply, devicesReply, nodesReply, type NodeReply } from './replies.js'
import { storeNames } from './store-names.js'

/** A writable disk of a running machine. */
export interface LiveDisk {
  /** The store's name. */
  readonly name: string
  /** The device, as QEMU's object tree has it: an ID or a path. */
  readonly device: string
  /** The node that the device is attached to. */
  readonly root: string
  /** The node below all filters, where the format is: its bitmaps see every write. */
  readonly node: string
  readonly format: string
  readonly sizeBytes: number
  /** Whether its bitmaps survive QEMU's end; only qcow2 can keep them. */
  readonly keepsBitmaps: boolean
  /** Undefined when it has none. */
  readonly backing: string | undefined
  /** `fingerprintChain` of what is below its image. */
  readonly below: string
  /** File name of the image as QEMU has it: possibly relative to its working folder, or a URI. */
  readonly imageFile: string
  readonly bitmaps: ReadonlyMap<string, BitmapState>
}

export interface FoundDisks {
  readonly disks: readonly LiveDisk[]
  /** Disks that are not backed up though nobody excluded them, and why: for people to read. */
  readonly warnings: readonly string[]
}

const filters = new Set(['throttle', 'copy-on-read', 'copy-before-write', 'compress', 'preallocate', 'blkdebug'])

/** Devices whose disks are served past QEMU's block layer, so that nothing here can see or freeze them. */
const passing: readonly (readonly [RegExp, string])[] = [
  [/^vhost-user-(blk|scsi)/, 'its disk is served by another process (vhost-user)'],
  [/^vhost-scsi/, 'its disk is served by the kernel (vhost-scsi)'],
  [/^vhost-vdpa|^vdpa/, 'its disk is served by a device (vDPA)'],
  [/^vfio-/, 'it is passed through to the guest; if it is a disk, nothing of it is backed up'],
  [/^(nvdimm$|virtio-pmem)/, 'the guest writes to it as to memory; what it keeps there is not backed up'],
]

/** Devices that pass the guest's SCSI commands on to a real disk, past the tracking of writes. */
const passThrough = new Set(['scsi-block', 'scsi-generic'])
const firmware = /^cfi\.pflash/

/**
 * Finds the disks that a guest can write, other than `exclude`. Empty drives, read-only ones and firmware are none.
 * @throws RefpointError `config` when `exclude` names a disk that is not there, `tracker` when there is none at all.
 */
export async function findDisks(
  { monitor, qemu }: { readonly monitor: Monitor; readonly qemu: QemuIdentity },
  exclude: readonly string[],
): Promise<FoundDisks> {
  const [devices, nodes, graph, open] = await Promise.all([
    monitor.ask(devicesReply, 'query-block'),
    monitor.ask(nodesReply, 'query-named-block-nodes', { flat: true }),
    readBlockGraph(monitor),
    openFilesOf(qemu.pid).catch(() => undefined),
  ])
  const byName = new Map(nodes.map((node) => [node['node-name'], node]))
  const view = { nodes: byName, graph, open, folder: qemu.folder ?? '/' }
  const warnings = await unseenDisks(monitor)
  const names = storeNames(devices)
  const disks: LiveDisk[] = []
  for (const [index, { qdev, inserted }] of devices.entries()) {
    const name = names[index] ?? ''
    if (qdev === undefined || inserted === undefined || inserted.ro || exclude.includes(name)) continue
    const type = await monitor.client.execute('qom-get', { path: qdev, property: 'type' })
    if (firmware.test(String(type))) continue
    if (passThrough.has(String(type))) {
      warnings.push(`disk '${name}' is not backed up: ${String(type)} passes the guest's commands past QEMU's tracking`)
      continue
    }
    const root = inserted['node-name']
    const node = byName.get(belowFilters(root, byName, graph))
    if (node === undefined) throw new RefpointError('tracker', `QEMU does not tell what is below disk '${name}'`)
    // A node higher up may describe itself with all that is below it.
    const imageFile = byName.get(graph.lowest(node['node-name']))?.file ?? ''
    const below = await fingerprintBelow(node['node-name'], view)
    disks.push(diskOf({ name, device: qdev, root, imageFile, below }, node, graph))
  }
  assertKnown(exclude, names)
  assertEachOnce(disks)
  if (disks.length === 0) {
    throw new RefpointError('tracker', 'the machine has no disk that it can write and that is not excluded', {
      ...(warnings.length > 0 && { hint: `What passes QEMU's block layer can't be backed up here: ${warnings.join('; ')}.` }),
      fields: { found: names, unseen: warnings },
    })
  }
  return { disks, warnings }
}

/**
 * Makes sure that these nodes still lead to their disk's format through nothing but filters: whoever takes a snapshot,
 * or ends a block job, puts another image in that place, which the disk's bitmaps do not see.
 * @throws RefpointError `tracker`
 */
export async function assertInPlace(
  monitor: Monitor,
  expected: readonly { readonly disk: LiveDisk; readonly above: readonly string[] }[],
): Promise<void> {
  const [nodes, graph] = await Promise.all([
    monitor.ask(nodesReply, 'query-named-block-nodes', { flat: true }),
    readBlockGraph(monitor),
  ])
  const byName = new Map(nodes.map((node) => [node['node-name'], node]))
  const moved = expected.find(({ disk, above }) => above.some((node) => belowFilters(node, byName, graph) !== disk.node))
  if (moved === undefined) return
  const { name } = moved.disk
  throw new RefpointError('tracker', `disk '${name}' got another image while the checkpoint was taken`, {
    hint: 'Another program took a snapshot of the machine, or moved the disk. Nothing was committed. Run the backup again.',
    fields: { store: name },
  })
}

function belowFilters(root: string, nodes: ReadonlyMap<string, NodeReply>, graph: BlockGraph): string {
  let node = root
  while (filters.has(nodes.get(node)?.drv ?? '')) node = graph.child(node, 'file') ?? graph.child(node, 'image') ?? ''
  return node
}

function diskOf(
  found: Pick<LiveDisk, 'name' | 'device' | 'root' | 'imageFile' | 'below'>,
  node: NodeReply,
  graph: BlockGraph,
): LiveDisk {
  const { image } = node
  return {
    ...found,
    node: node['node-name'],
    format: node.drv,
    sizeBytes: image['virtual-size'],
    keepsBitmaps: node.drv === 'qcow2' && image['format-specific']?.data?.compat !== '0.10',
    backing: graph.child(node['node-name'], 'backing'),
    bitmaps: bitmapsOf(node['dirty-bitmaps'] ?? []),
  }
}

function bitmapsOf(bitmaps: readonly BitmapReply[]): Map<string, BitmapState> {
  return new Map(
    bitmaps.flatMap(({ name, granularity, recording, inconsistent }) => {
      if (name === undefined) return []
      return [[name, { granularityBytes: granularity, recording, inconsistent: inconsistent ?? false }] as const]
    }),
  )
}

async function unseenDisks(monitor: Monitor): Promise<string[]> {
  const warnings: string[] = []
  for (const folder of ['/machine/peripheral', '/machine/peripheral-anon']) {
    const list = (await monitor.client.execute('qom-list', { path: folder })) as readonly { name: string; type: string }[]
    for (const { name, type } of list) {
      const kind = /^child<(.*)>$/.exec(type)?.[1] ?? ''
      const why = passing.find(([pattern]) => pattern.test(kind))?.[1]
      if (why !== undefined) warnings.push(`device '${name}' (${kind}) is not backed up: ${why}`)
    }
  }
  return warnings
}

function assertKnown(exclude: readonly string[], names: readonly string[]): void {
  const unknown = exclude.filter((name) => !names.includes(name))
  if (unknown.length === 0) return
  throw new RefpointError('config', `the machine has no disk '${unknown.join("', '")}' that could be excluded`, {
    hint: `Correct disks.exclude. Its disks are: ${names.join(', ')}.`,
    fields: { unknown, found: names },
  })
}

/** Two devices on one node are one disk that two parts of a guest share: a filter can't be put over both at once. */
function assertEachOnce(disks: readonly LiveDisk[]): void {
  const seen = new Map<string, string>()
  for (const { name, node } of disks) {
    const other = seen.get(node)
    if (other !== undefined) {
      throw new RefpointError('tracker', `disks '${other}' and '${name}' are one image, attached twice`, {
        hint: `Exclude them (disks.exclude: [${other}, ${name}]); such a machine can't be backed up live.`,
      })
    }
    seen.set(node, name)
  }
}
