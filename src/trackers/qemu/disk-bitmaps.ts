import { ChangeIdExpired } from '../../model/errors.js'
import type { ReferencePoint } from '../../model/reference-point.js'
import { assertAnswerable, type BitmapChangeId, parseBitmapChangeId } from '../bitmaps/change-id.js'
import { defaultGranularityBytes } from '../bitmaps/granularity.js'
import { formatBitmapName, newInstant, parseBitmapName } from '../bitmaps/names.js'
import type { LiveDisk } from './disks.js'
import type { PlannedDisk } from './frozen-disks.js'
import { isRefusal, type Monitor } from './monitor.js'
import { nodesReply } from './replies.js'

/** Decides which bitmaps a checkpoint of these disks is about. */
export function planBitmaps(
  disks: readonly LiveDisk[],
  tag: string,
  previous: ReferencePoint | undefined,
  granularityBytes: number | undefined,
): PlannedDisk[] {
  return disks.map((disk): PlannedDisk => {
    const instant = newInstant()
    const next = {
      instant,
      name: formatBitmapName({ owner: tag, instant, frozen: false }),
      granularityBytes: granularityBytes ?? defaultGranularityBytes(disk.sizeBytes),
    }
    const since = previous?.changeIds[disk.name]
    if (since === undefined) return { disk, next, previous: undefined }
    try {
      const changeId = parseBitmapChangeId(since)
      const name = answering(changeId, disk, tag)
      const frozen = formatBitmapName({ owner: tag, instant: changeId.instant, frozen: true })
      return { disk, next, previous: { name, frozen } }
    } catch (error) {
      if (error instanceof ChangeIdExpired) return { disk, next, previous: undefined }
      throw error
    }
  })
}

/**
 * The bitmap that tells all changes of a disk since a change ID.
 * @throws ChangeIdExpired when there is none.
 */
export function answering(since: BitmapChangeId, disk: LiveDisk, tag: string): string {
  const name = formatBitmapName({ owner: tag, instant: since.instant, frozen: false })
  const bitmap = disk.bitmaps.get(name)
  if (bitmap === undefined && !disk.keepsBitmaps && disk.sizeBytes === since.sizeBytes) {
    const why = `QEMU keeps no dirty bitmap for ${disk.format} images when it ends, and has been started since that point`
    throw new ChangeIdExpired('unknown', why)
  }
  assertAnswerable(since, bitmap, disk)
  return name
}

/** The instants of a reference point's bitmaps. */
export function instantsOf(point: ReferencePoint | undefined): Set<string> {
  const instants = new Set<string>()
  for (const changeId of Object.values(point?.changeIds ?? {})) {
    try {
      instants.add(parseBitmapChangeId(changeId).instant)
    } catch (error) {
      if (!(error instanceof ChangeIdExpired)) throw error
    }
  }
  return instants
}

/** Removes the bitmaps of one owner that record, other than those of `keep`; on images below others they stay. */
export async function removeBitmaps(monitor: Monitor, tag: string, keep: ReadonlySet<string>): Promise<void> {
  for (const node of await monitor.ask(nodesReply, 'query-named-block-nodes', { flat: true })) {
    for (const { name = '' } of node['dirty-bitmaps'] ?? []) {
      const parsed = parseBitmapName(name)
      if (parsed?.owner !== tag || parsed.frozen || keep.has(parsed.instant)) continue
      try {
        await monitor.do('block-dirty-bitmap-remove', { node: node['node-name'], name })
      } catch (error) {
        // An image that is read-only now, since somebody took a snapshot: its bitmaps record nothing and harm nobody.
        if (!isRefusal(error) || !node.ro) throw error
      }
    }
  }
}
