import { RefpointError } from '../model/errors.js'
import type { PointManifest, SlotManifest } from '../model/manifest.js'
import { decodeJson, parseObject } from './json-object.js'
import { pointName, revisionName } from './layout.js'
import { manifestFormatSchema, slotManifestSchema } from './manifest-schema.js'
import type { ReadRepository } from './repository.js'

export const manifestLimitBytes = 16 * 1024 * 1024
/** What a manifest's `requires` may name. A fold names the first: whoever does not know it must not guess. */
export const foldFeature = 'folds'
const features: readonly string[] = [foldFeature]

/**
 * What is in a slot; undefined when it is free.
 * @throws RefpointError `damaged` when it is no manifest, or not the one of this slot.
 */
export async function readSlot(
  repository: ReadRepository,
  machine: string,
  slot: number,
): Promise<SlotManifest | undefined> {
  return await readManifest(repository, pointName(machine, slot), slot)
}

/**
 * A later revision of a point's manifest; undefined when there is none.
 * @throws RefpointError `damaged` when it is no manifest of a point, or not this revision of this point.
 */
export async function readRevision(
  repository: ReadRepository,
  machine: string,
  slot: number,
  revision: number,
): Promise<PointManifest | undefined> {
  const object = revisionName(machine, slot, revision)
  const manifest = await readManifest(repository, object, slot)
  if (manifest === undefined) return undefined
  if (manifest.type === 'point' && manifest.revision === revision) return manifest
  throw new RefpointError('damaged', `manifest ${object} is not revision ${revision} of a point`, { fields: { object } })
}

async function readManifest(
  repository: ReadRepository,
  object: string,
  slot: number,
): Promise<SlotManifest | undefined> {
  const bytes = await repository.read(object, manifestLimitBytes)
  if (bytes === undefined) return undefined
  const value = decodeJson(object, bytes)
  const { format, requires = [] } = parseObject(object, manifestFormatSchema, value)
  const unknown = requires.filter((feature) => !features.includes(feature))
  if (format > 1 || unknown.length > 0) {
    const what = format > 1 ? `format ${format}` : unknown.join(', ')
    throw new RefpointError('damaged', `manifest ${object} needs a newer refpoint (${what})`, { fields: { object } })
  }
  const manifest = parseObject(object, slotManifestSchema, value)
  if (manifest.point !== slot) {
    throw new RefpointError('damaged', `manifest ${object} is of point #${manifest.point}`, { fields: { object } })
  }
  return manifest
}
