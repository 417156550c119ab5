import { storeChain } from '../../model/chain.js'
import { RefpointError } from '../../model/errors.js'
import type { PointManifest } from '../../model/manifest.js'
import type { ReadRepository } from '../../repository/repository.js'
import { locateArchive } from '../chain-reader.js'

export interface ParentChoice {
  readonly parent: PointManifest | undefined
  /** Newer points that were passed over, and why; newest first. */
  readonly passedOver: readonly string[]
}

/**
 * The newest point from which an incremental may go on: one whose whole chain is there. A point on a broken chain
 * would be one more that can't be restored.
 * @param points by slot, ascending.
 * @param damaged points whose archives turned out not to be readable: what builds on one of them is passed over.
 */
export async function chooseParent(
  repository: ReadRepository,
  points: readonly PointManifest[],
  damaged: ReadonlySet<number> = new Set(),
): Promise<ParentChoice> {
  const bySlot = new Map(points.map((point) => [point.point, point]))
  const checked = new Map<number, Promise<unknown>>()
  const passedOver: string[] = []
  for (const point of points.toReversed()) {
    try {
      const needed = new Map<number, PointManifest>()
      for (const store of point.stores) {
        for (const member of storeChain(point, store.name, bySlot)) needed.set(member.point, member)
      }
      if ([...needed.keys()].some((slot) => damaged.has(slot))) continue
      for (const member of needed.values()) {
        let pending = checked.get(member.point)
        if (pending === undefined) {
          pending = locateArchive(repository, member)
          checked.set(member.point, pending)
        }
        await pending
      }
      return { parent: point, passedOver }
    } catch (error) {
      if (!(error instanceof RefpointError) || error.code !== 'damaged') throw error
      passedOver.push(error.message)
    }
  }
  return { parent: undefined, passedOver }
}
