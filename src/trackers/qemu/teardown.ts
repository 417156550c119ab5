import { readBlockGraph } from './block-graph.js'
import { repairOverlay } from './overlays.js'
import { isRefusal, type Monitor } from './monitor.js'
import { type Part, partOf } from './names.js'
import { parseBitmapName } from '../bitmaps/names.js'
import { stopNbdServer } from './nbd-socket.js'
import type { QemuIdentity } from './qemu-process.js'
import { devicesReply, exportsReply, jobsReply, type NodeReply, nodesReply, objectsReply } from './replies.js'

export interface TeardownOptions {
  /** `ownerPrefix` of the owner whose runs' things go; nothing of anybody else's is touched. */
  readonly prefix: string
  /** `ownerTag` of the same owner. */
  readonly tag: string
  readonly qemu: QemuIdentity
}

/** What was there and is gone, by name. */
export interface Removed {
  readonly removed: readonly string[]
  /** For people to read: what had to stay, and what they should do. */
  readonly warnings: readonly string[]
}

/**
 * Takes everything out of a running QEMU that runs of one owner put into it, however far they came: exports, nodes,
 * jobs, groups, frozen bitmaps. The guest's disks are attached as they were before. It asks QEMU what is there, so that
 * a run that ends well and the leftovers of one that was killed go the same way. What records writes for reference
 * points stays.
 */
export async function tearDown(monitor: Monitor, { prefix, tag, qemu }: TeardownOptions): Promise<Removed> {
  const removed: string[] = []
  const warnings: string[] = []
  await removeExports(monitor, prefix, removed)
  await stopNbdServer(monitor, qemu)
  await removeJobs(monitor, prefix, removed)
  let nodes = await monitor.ask(nodesReply, 'query-named-block-nodes', { flat: true })
  const ours = (part: Part): string[] =>
    nodes.map((node) => node['node-name']).filter((name) => partOf(name, prefix) === part)
  if (ours('thr').length + ours('cap').length > 0) {
    for (const node of ours('snap')) await removeNode(monitor, node, removed)
    await takeFiltersOut(monitor, prefix, ours)
    for (const node of ours('cbw')) await removeNode(monitor, node, removed)
    await detach(monitor, prefix)
    const graph = await readBlockGraph(monitor)
    for (const node of ours('thr')) {
      if (graph.parents(node).length === 0) {
        await removeNode(monitor, node, removed)
        continue
      }
      const advice = await repairOverlay(monitor, node)
      warnings.push(advice ?? `node '${node}' stays in QEMU, since something was put on it (a snapshot, another run)`)
    }
    // `file` is a part of `cap`, and goes with it.
    for (const part of ['tmp', 'cap'] as const) for (const node of ours(part)) await removeNode(monitor, node, removed)
    nodes = await monitor.ask(nodesReply, 'query-named-block-nodes', { flat: true })
  }
  await removeGroups(monitor, prefix, removed)
  await removeFrozenBitmaps(monitor, nodes, tag, removed)
  return { removed, warnings }
}

async function removeExports(monitor: Monitor, prefix: string, removed: string[]): Promise<void> {
  const found = await monitor.ask(exportsReply, 'query-block-exports')
  for (const { id } of found.filter((entry) => entry.id.startsWith(prefix))) {
    const gone = monitor.client.waitForEvent(({ event, data }) => event === 'BLOCK_EXPORT_DELETED' && data['id'] === id)
    await monitor.do('block-export-del', { id, mode: 'hard' })
    await gone
    removed.push(`export ${id}`)
  }
}

async function removeJobs(monitor: Monitor, prefix: string, removed: string[]): Promise<void> {
  const found = await monitor.ask(jobsReply, 'query-jobs')
  for (const { id, status } of found.filter((entry) => entry.id.startsWith(prefix))) {
    if (status !== 'concluded') {
      const concluded = monitor.client.waitForEvent(
        ({ event, data }) => event === 'JOB_STATUS_CHANGE' && data['id'] === id && data['status'] === 'concluded',
      )
      await monitor.do('job-cancel', { id }).catch(ignoreRefusal)
      await concluded
    }
    await monitor.do('job-dismiss', { id })
    removed.push(`job ${id}`)
  }
}

/** Lets the guest's writes go past `cbw` again, all disks at once. */
async function takeFiltersOut(monitor: Monitor, prefix: string, ours: (part: Part) => string[]): Promise<void> {
  const graph = await readBlockGraph(monitor)
  const options = ours('thr').flatMap((node) => {
    const below = graph.child(node, 'file')
    if (below === undefined || partOf(below, prefix) !== 'cbw') return []
    return [throttleOptions(node, graph.child(below, 'file') ?? '')]
  })
  if (options.length === 0) return
  await flushDevices(monitor, options.map((option) => option['node-name']))
  await monitor.do('blockdev-reopen', { options })
}

/** How a filter that does nothing is opened: its group has the same name but for its part. */
export function throttleOptions(node: string, file: string) {
  return { driver: 'throttle', 'node-name': node, 'throttle-group': node.replace(/thr$/, 'grp'), file }
}

/** A flush before a change of the graph makes that change short: nothing is left that it would have to wait for. */
async function flushDevices(monitor: Monitor, nodes: readonly string[]): Promise<void> {
  const devices = await monitor.ask(devicesReply, 'query-block')
  for (const { qdev, inserted } of devices) {
    if (qdev === undefined || inserted === undefined || !nodes.includes(inserted['node-name'])) continue
    await flushDevice(monitor, qdev).catch(ignoreRefusal)
  }
}

export async function flushDevice(monitor: Monitor, device: string): Promise<void> {
  await monitor.human(`qemu-io -d ${device} "flush"`)
}

/** Attaches devices to what is below our filters. */
async function detach(monitor: Monitor, prefix: string): Promise<void> {
  const graph = await readBlockGraph(monitor)
  for (const { qdev, inserted } of await monitor.ask(devicesReply, 'query-block')) {
    const root = inserted?.['node-name']
    if (qdev === undefined || root === undefined || partOf(root, prefix) !== 'thr') continue
    await monitor.do('qom-set', { path: qdev, property: 'drive', value: graph.child(root, 'file') })
  }
}

async function removeNode(monitor: Monitor, node: string, removed: string[]): Promise<void> {
  await monitor.do('blockdev-del', { 'node-name': node })
  removed.push(`node ${node}`)
}

async function removeGroups(monitor: Monitor, prefix: string, removed: string[]): Promise<void> {
  for (const { name } of await monitor.ask(objectsReply, 'qom-list', { path: '/objects' })) {
    if (partOf(name, prefix) !== 'grp') continue
    // One whose filter had to stay is still in use.
    await monitor.do('object-del', { id: name }).then(() => removed.push(`group ${name}`), ignoreRefusal)
  }
}

async function removeFrozenBitmaps(
  monitor: Monitor,
  nodes: readonly NodeReply[],
  tag: string,
  removed: string[],
): Promise<void> {
  for (const node of nodes) {
    for (const { name } of node['dirty-bitmaps'] ?? []) {
      const parsed = name === undefined ? undefined : parseBitmapName(name)
      if (name === undefined || parsed?.owner !== tag || !parsed.frozen) continue
      await monitor.do('block-dirty-bitmap-remove', { node: node['node-name'], name })
      removed.push(`bitmap ${name}`)
    }
  }
}

export function ignoreRefusal(error: unknown): void {
  if (!isRefusal(error)) throw error
}
