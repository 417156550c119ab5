import { readdir } from 'node:fs/promises'
import { parseBitmapName } from '../../bitmaps/names.js'
import { isRunName, partOf } from '../names.js'
import type { Monitor } from '../monitor.js'
import { exportsReply, jobsReply, nodesReply, objectsReply } from '../replies.js'

export interface LeftoverOptions {
  readonly prefix: string
  readonly tag: string
  /** Instants whose bitmaps are needed. */
  readonly keep: ReadonlySet<string>
  /** Where the files of fleecing areas are; undefined where that is not known. */
  readonly folder: string | undefined
}

/** What killed runs of one owner left in QEMU and beside it, by kind and name. Changes nothing. */
export async function findLeftovers(
  monitor: Monitor,
  { prefix, tag, keep, folder }: LeftoverOptions,
): Promise<string[]> {
  const [exports, jobs, nodes, objects] = await Promise.all([
    monitor.ask(exportsReply, 'query-block-exports'),
    monitor.ask(jobsReply, 'query-jobs'),
    monitor.ask(nodesReply, 'query-named-block-nodes', { flat: true }),
    monitor.ask(objectsReply, 'qom-list', { path: '/objects' }),
  ])
  const bitmaps = nodes.flatMap((node) => (node['dirty-bitmaps'] ?? []).flatMap(({ name }) => name ?? []))
  const stale = bitmaps.filter((name) => {
    const parsed = parseBitmapName(name)
    return parsed?.owner === tag && (parsed.frozen || !keep.has(parsed.instant))
  })
  const files = folder === undefined ? [] : await readdir(folder).catch((): string[] => [])
  return [
    ...exports.filter(({ id }) => id.startsWith(prefix)).map(({ id }) => `export ${id}`),
    ...jobs.filter(({ id }) => id.startsWith(prefix)).map(({ id }) => `job ${id}`),
    ...nodes
      .map((node) => node['node-name'])
      .filter((name) => partOf(name, prefix) !== undefined)
      .map((name) => `node ${name}`),
    ...objects.filter(({ name }) => partOf(name, prefix) === 'grp').map(({ name }) => `group ${name}`),
    ...stale.map((name) => `bitmap ${name}`),
    ...files.filter((name) => name.startsWith(`.fleecing-${prefix}`)).map((name) => `file ${name}`),
  ]
}

/** How many things of other owners' runs there are: theirs to remove. */
export async function countOthers(
  monitor: Monitor,
  tag: string | undefined,
  prefix: string | undefined,
): Promise<number> {
  const nodes = await monitor.ask(nodesReply, 'query-named-block-nodes', { flat: true })
  const ours = (name: string): boolean => prefix !== undefined && name.startsWith(prefix)
  const others = nodes.filter((node) => isRunName(node['node-name']) && !ours(node['node-name']))
  const bitmaps = nodes.flatMap((node) => (node['dirty-bitmaps'] ?? []).flatMap(({ name }) => name ?? []))
  const theirs = bitmaps.filter((name) => {
    const parsed = parseBitmapName(name)
    return parsed !== undefined && parsed.owner !== tag
  })
  return others.length + theirs.length
}
