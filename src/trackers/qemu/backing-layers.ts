import { stat } from 'node:fs/promises'
import { type BackingLayer, fingerprintChain, UNKNOWN_BELOW } from '../bitmaps/backing-chain.js'
import type { BlockGraph } from './block-graph.js'
import { imagePath, type OpenFile } from './machine/open-images.js'
import type { NodeReply } from './replies.js'

/** Formats that have all their content in one file. */
const plain = new Set(['qcow2', 'qcow', 'qed', 'vdi', 'vhdx', 'vpc', 'parallels', 'luks'])
/** What passes on what it reads from its `file`. */
const passing = new Set(['throttle', 'copy-on-read', 'copy-before-write', 'compress', 'preallocate'])
const files = new Set(['file', 'host_device'])
const mostLayers = 256

export interface GraphView {
  readonly nodes: ReadonlyMap<string, NodeReply>
  readonly graph: BlockGraph
  /** What QEMU has open; undefined where this user may not see it. */
  readonly open: readonly OpenFile[] | undefined
  /** QEMU's working folder. */
  readonly folder: string
}

/** `fingerprintChain` of all that is below a disk's image, as QEMU has it open. */
export async function fingerprintBelow(node: string, view: GraphView): Promise<string> {
  const layers: BackingLayer[] = []
  for (let at = view.graph.child(node, 'backing'); at !== undefined;) {
    const found = await layerAt(at, view)
    if (found === undefined || layers.length === mostLayers) return UNKNOWN_BELOW
    layers.push(found.layer)
    at = found.backing
  }
  return await fingerprintChain(layers)
}

/** The image that a node leads to, and the node below that; undefined for what nobody here could see change. */
async function layerAt(
  top: string,
  { nodes, graph, open, folder }: GraphView,
): Promise<{ readonly layer: BackingLayer; readonly backing: string | undefined } | undefined> {
  let format = 'raw'
  let backing: string | undefined
  let node = nodes.get(top)
  for (; node !== undefined && !files.has(node.drv); node = nodes.get(graph.child(node['node-name'], 'file') ?? '')) {
    const name = node['node-name']
    if (plain.has(node.drv)) {
      if (format !== 'raw' || graph.child(name, 'data-file') !== undefined) return undefined
      format = node.drv
      backing = graph.child(name, 'backing')
    } else if (node.drv === 'raw') {
      // With an offset into its file it tells all options in place of a name.
      if (node.file.startsWith('json:')) return undefined
    } else if (!passing.has(node.drv)) return undefined
  }
  if (node === undefined || open === undefined) return undefined
  const path = await imagePath(node.file, folder, open)
  if (path === null) return undefined
  const descriptor = await openedAs(path, open)
  return descriptor === undefined ? undefined : { layer: { format, path, descriptor }, backing }
}

/**
 * The descriptor by which QEMU has the file at `path` open: none when another file has taken that place since QEMU
 * opened it, so that the guest reads one now and the other after its next start.
 */
async function openedAs(path: string, open: readonly OpenFile[]): Promise<string | undefined> {
  const wanted = await stat(path).catch(() => undefined)
  for (const { descriptor } of open) {
    const found = await stat(descriptor).catch(() => undefined)
    if (found !== undefined && found.dev === wanted?.dev && found.ino === wanted.ino) return descriptor
  }
  return undefined
}
