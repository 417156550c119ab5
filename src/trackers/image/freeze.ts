import { dirname } from 'node:path'
import type { Native } from '../../files/native.js'
import { RefpointError } from '../../model/errors.js'
import type { Consistency } from '../../model/reference-point.js'
import type { Owner } from '../tracker.js'
import { type Clone, cloneImage } from './clone.js'
import type { FrozenImage } from './frozen-image.js'
import { type Occupancy, occupy } from './occupancy.js'
import type { OpenImage } from './open-image.js'
import { assertSameSize, traceOf } from './stability.js'

export interface FreezeOptions {
  readonly allowTorn: boolean
  /** Where clones are made; by default beside the image. */
  readonly cloneFolder: string | undefined
  readonly owner: Owner
  readonly native: Native | undefined
}

export interface Frozen {
  readonly consistency: Consistency
  readonly stores: readonly FrozenImage[]
  readonly warnings: readonly string[]
}

interface Judged {
  readonly image: OpenImage
  readonly occupancy: Occupancy
}

/**
 * Finds the best instant that is to be had over open images:
 *
 * - all of them locked: `offline`
 * - all but one locked, and a clone of that one: the clone's instant, `crash`, for the others did not change
 * - else there is none: `torn` if that is allowed. Clones are made all the same where they can be, so that at least
 *   each of those stores is one instant of itself.
 *
 * What it opens is in `clones`, also when it throws.
 */
export async function freeze(
  images: readonly OpenImage[],
  { allowTorn, cloneFolder, owner, native }: FreezeOptions,
  clones: Map<OpenImage, Clone>,
): Promise<Frozen> {
  const judged = images.map((image): Judged => ({ image, occupancy: occupy(image, native) }))
  const open = judged.filter(({ occupancy }) => occupancy.state !== 'locked')
  const locked = judged.filter(({ occupancy }) => occupancy.state === 'locked').map(({ image }) => image)
  // Before the instant, so that no write after it can be missed.
  const traces = new Map(locked.map((image) => [image, traceOf(image)]))
  locked.forEach(assertSameSize)
  const unclonable: string[] = []
  if (open.length === 1 || allowTorn) {
    for (const { image } of open) {
      const clone = await tryClone(image, cloneFolder, owner)
      if (typeof clone === 'string') unclonable.push(`${image.name}: ${clone}`)
      else clones.set(image, clone)
    }
  }
  const consistency = level(open.length, clones.size)
  if (consistency === 'torn' && !allowTorn) throw noInstant(open, unclonable)
  return {
    consistency,
    stores: images.map((image) => {
      const clone = clones.get(image)
      const promised = consistency !== 'torn' && clone === undefined
      return { image, clone, trace: promised ? traces.get(image) : undefined }
    }),
    warnings: warningsOf(open, consistency, native),
  }
}

function level(open: number, cloned: number): Consistency {
  if (open === 0) return 'offline'
  return open === 1 && cloned === 1 ? 'crash' : 'torn'
}

async function tryClone(image: OpenImage, folder: string | undefined, owner: Owner): Promise<Clone | string> {
  if (image.device !== undefined) return 'a block device can not be cloned'
  return cloneImage(image.fd, folder ?? dirname(image.identity.path), owner)
}

function noInstant(open: readonly Judged[], unclonable: readonly string[]): RefpointError {
  const why = open.flatMap(({ image, occupancy }) => {
    return occupancy.state === 'locked' ? [] : [`store ${image.name}: ${occupancy.why}`]
  })
  const reasons = unclonable.length > 0 ? ` (${unclonable.join('; ')})` : ''
  const instant =
    open.length > 1
      ? 'Several live images are not one instant, even as clones'
      : 'A live image on a file system that clones files (XFS, Btrfs) could be backed up as after a power cut'
  return new RefpointError('tracker', `there is no stable instant to back up: ${why.join('; ')}${reasons}`, {
    hint:
      `Shut the machine down for the backup. ${instant}. To back it up as it is, ` +
      'though what is read belongs to no single instant, say allow: [torn] for this machine.',
    fields: {
      stores: open.map(({ image, occupancy }) => ({
        store: image.name,
        path: image.identity.path,
        holders: occupancy.state === 'locked' ? [] : occupancy.holders,
      })),
    },
  })
}

function warningsOf(open: readonly Judged[], consistency: Consistency, native: Native | undefined): string[] {
  const warnings: string[] = []
  if (native === undefined) {
    warnings.push("native calls are not available (package koffi): locks can't be checked, and holes are read as data")
  }
  if (consistency !== 'torn') return warnings
  for (const { image, occupancy } of open) {
    if (occupancy.state !== 'locked') warnings.push(`store ${image.name} is torn: ${occupancy.why}`)
  }
  return warnings
}
