import type { Monitor } from './monitor.js'
import { graphReply } from './replies.js'

/** How QEMU's block nodes hang together. */
export interface BlockGraph {
  /** The node that a node has as its child of this name: `file`, `backing`, `target`. */
  child(node: string, name: string): string | undefined
  /** Names of all nodes that have this one as a child. */
  parents(node: string): readonly string[]
}

export async function readBlockGraph(monitor: Monitor): Promise<BlockGraph> {
  const { nodes, edges } = await monitor.ask(graphReply, 'x-debug-query-block-graph')
  const names = new Map(nodes.map(({ id, name }) => [id, name]))
  const ids = new Map(nodes.flatMap(({ id, name, type }) => (type === 'block-driver' ? [[name, id]] : [])))
  return {
    child(node, name) {
      const id = ids.get(node)
      const edge = edges.find((candidate) => candidate.parent === id && candidate.name === name)
      return edge === undefined ? undefined : names.get(edge.child)
    },
    parents(node) {
      const id = ids.get(node)
      return edges.filter(({ child }) => child === id).map(({ parent }) => names.get(parent) ?? '')
    },
  }
}
