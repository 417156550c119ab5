import { readBlockGraph } from './block-graph.js'
import { isRefusal, type Monitor } from './monitor.js'
import { nodesReply } from './replies.js'

/**
 * A snapshot that somebody takes of a disk while a backup runs lies on the filter of that run, and the new image names
 * in its header everything that was below then, the fleecing area too, as what it is based on. The machine could not be
 * started from it any more. So the header is made to name the disk's image itself.
 * @param filter a filter of a run, with nothing of the run below it any more
 * @returns what the user has to do, where QEMU can't: undefined when all is well, or no snapshot lies on the filter
 */
export async function repairOverlay(monitor: Monitor, filter: string): Promise<string | undefined> {
  const graph = await readBlockGraph(monitor)
  const overlay = graph.parents(filter).find((parent) => graph.child(parent, 'backing') === filter)
  const below = graph.child(filter, 'file')
  if (overlay === undefined || below === undefined) return undefined
  const nodes = await monitor.ask(nodesReply, 'query-named-block-nodes', { flat: true })
  const node = (name: string) => nodes.find((candidate) => candidate['node-name'] === name)
  const image = node(graph.lowest(below))?.file ?? ''
  const format = node(below)?.drv ?? ''
  const file = node(graph.lowest(overlay))?.file ?? overlay
  // QEMU writes the format of the upper image for that of the lower one.
  if (format === node(overlay)?.drv) {
    try {
      await monitor.do('change-backing-file', { device: overlay, 'image-node-name': overlay, 'backing-file': image })
      return undefined
    } catch (error) {
      if (!isRefusal(error)) throw error
    }
  }
  return `${file} was made by a snapshot during a backup, and must be told what it is based on: qemu-img rebase -u -F ${format} -b ${image} ${file}`
}
