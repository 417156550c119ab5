import type { Codec } from '../../compress/codec.js'
import { RefpointError } from '../../model/errors.js'
import type { PointManifest } from '../../model/manifest.js'
import type { ReadRepository } from '../../repository/repository.js'
import type { CheckpointOptions } from '../../trackers/tracker.js'
import { ArchiveShelf } from '../chain-reader.js'

/**
 * Finds the machine's own files in its points. One whose archive is damaged is passed over: what it would have told was
 * told by the one before it, too, or the run does without.
 * @param points by slot, ascending.
 */
export function recallFrom(
  repository: ReadRepository,
  codec: Codec,
  points: readonly PointManifest[],
): CheckpointOptions['recall'] {
  return async (path) => {
    await using shelf = new ArchiveShelf(repository, codec)
    for (const point of points.toReversed()) {
      try {
        const { reader } = await shelf.open(point)
        if (reader.config.some((file) => file.path === path)) return await reader.readConfig(path)
      } catch (error) {
        if (!(error instanceof RefpointError && error.code === 'damaged')) throw error
      }
      await shelf.close(point.point)
    }
    return undefined
  }
}
