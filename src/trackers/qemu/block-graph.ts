import type { Monitor } from './monitor.js'
import { graphReply } from './replies.js'

/** How QEMU's block nodes hang together. */
export interface BlockGraph {
  /** The node that a node has as its child of this name: `file`, `backing`, `target`. */
  child(node: string, name: string): string | undefined
  /** Who has this node as a child: nodes by their names, devices and exports by theirs. */
  parents(node: string): readonly string[]
  /** The node at the end of all `file` (or, below blkdebug, `image`) children: what opened the image. */
  lowest(node: string): string
}

export async function readBlockGraph(monitor: Monitor): Promise<BlockGraph> {
  const { nodes, edges } = await monitor.ask(graphReply, 'x-debug-query-block-graph')
  const names = new Map(nodes.map(({ id, name }) => [id, name]))
  const ids = new Map(nodes.flatMap(({ id, name, type }) => (type === 'block-driver' ? [[name, id]] : [])))
  const child = (node: string, name: string): string | undefined => {
    const id = ids.get(node)
    const edge = edges.find((candidate) => candidate.parent === id && candidate.name === name)
    return edge === undefined ? undefined : names.get(edge.child)
  }
  const lowest = (node: string): string => {
    const below = child(node, 'file') ?? child(node, 'image')
    return below === undefined ? node : lowest(below)
  }
  return {
    child,
    lowest,
    parents(node) {
      const id = ids.get(node)
      return edges.filter(({ child }) => child === id).map(({ parent }) => names.get(parent) ?? '')
    },
  }
}
