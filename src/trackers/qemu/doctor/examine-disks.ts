import { ChangeIdExpired } from '../../../model/errors.js'
import { answering } from '../disk-bitmaps.js'
import type { LiveDisk } from '../disks.js'
import type { BlockDevice } from '../machine/block-devices.js'
import { UNKNOWN_BELOW } from '../../bitmaps/backing-chain.js'
import { parseBitmapChangeId } from '../../bitmaps/change-id.js'
import type { Finding } from '../../doctor.js'
import type { ReferencePoint } from '../../../model/reference-point.js'

/** What each disk of a running machine is, what its incrementals will cost, and whether the next one is tracked. */
export function examineDisks(
  disks: readonly LiveDisk[],
  { tag, previous }: { readonly tag: string | undefined; readonly previous: ReferencePoint | undefined },
): Finding[] {
  return disks.flatMap((disk) => [whatItIs(disk), ...whatIsBelow(disk), ...answerable(disk, tag, previous)])
}

/** Disks that QEMU has and no point will have, but for empty drives. */
export function examineOthers(
  devices: readonly BlockDevice[],
  disks: readonly LiveDisk[],
  exclude: readonly string[],
): Finding[] {
  return devices
    .filter(({ device }) => !disks.some((disk) => disk.device === device))
    .map(({ drive, device, node, readOnly, removable, images }) => {
      const name = drive ?? (node.startsWith('#') ? device : node)
      const why = readOnly ? 'it is only read' : exclude.length > 0 ? 'it is excluded' : 'it is not a disk of its own'
      const what = removable ? 'a medium that can be taken out' : 'a disk'
      const file = images[0]?.path ?? images[0]?.filename ?? ''
      return {
        level: 'note',
        topic: 'disk',
        store: null,
        message: `${name} (${file}), ${what}, is not backed up: ${why}`,
      }
    })
}

function whatItIs({ name, format, sizeBytes, imageFile, keepsBitmaps, backing }: LiveDisk): Finding {
  const mib = sizeBytes / 1024 ** 2
  const size = mib < 10_240 ? `${Math.round(mib)} MiB` : `${Math.round(mib / 1024)} GiB`
  const image = `${name}: ${format}${backing === undefined ? '' : ' over a backing image'}, ${size}, ${imageFile}`
  if (keepsBitmaps) {
    const message = `${image}: keeps its dirty bitmap over shutdowns; compared after QEMU was killed`
    return { level: 'good', topic: 'disk', store: name, message }
  }
  const why = format === 'qcow2' ? 'a qcow2 image of version 2' : `an image of format ${format}`
  return {
    level: 'note',
    topic: 'disk',
    store: name,
    message: `${image}: tracked while QEMU runs; ${why} keeps no dirty bitmap, so each power-off costs one comparison of all of it`,
    ...(format === 'qcow2' ? { hint: `With the machine shut down: qemu-img amend -o compat=1.1 ${imageFile}` } : {}),
  }
}

function whatIsBelow({ name, below }: LiveDisk): Finding[] {
  if (below !== UNKNOWN_BELOW) return []
  return [
    {
      level: 'note',
      topic: 'disk',
      store: name,
      message: `${name}: compared every time: nothing can tell whether what backs it changes`,
      hint:
        'Its backing file is not on this host, or of a format in several files, or another file took its place while ' +
        'QEMU has it open, or is being written to.',
    },
  ]
}

function answerable(disk: LiveDisk, tag: string | undefined, previous: ReferencePoint | undefined): Finding[] {
  if (previous === undefined || tag === undefined) return []
  const about = { topic: 'tracking', store: disk.name }
  const since = previous.changeIds[disk.name]
  if (since === undefined) {
    const message = `${disk.name}: has no change ID in point #${previous.point}: compared with it, or stored as a whole`
    return [{ ...about, level: 'note', message }]
  }
  try {
    answering(parseBitmapChangeId(since), disk, tag)
    return [{ ...about, level: 'good', message: `${disk.name}: tracked since point #${previous.point}` }]
  } catch (error) {
    if (!(error instanceof ChangeIdExpired)) throw error
    const message = `${disk.name}: compared with point #${previous.point} next time: ${error.explanation}`
    return [{ ...about, level: 'note', message }]
  }
}
