import { RefpointError } from './errors.js'
import type { PointManifest, StoreRecord } from './manifest.js'

/** The record of a store in a point. */
export function storeRecord(point: PointManifest, store: string): StoreRecord | undefined {
  return point.stores.find((record) => record.name === store)
}

/**
 * The points that are needed to restore one store at one point: newest first, down to the point in which the store's
 * mode is `full`.
 * @throws RefpointError `damaged` when an ancestor is missing or the parents do not lead down to a full.
 */
export function storeChain(
  point: PointManifest,
  store: string,
  bySlot: ReadonlyMap<number, PointManifest>,
): readonly PointManifest[] {
  const chain: PointManifest[] = []
  let current: PointManifest = point
  for (;;) {
    chain.push(current)
    const record = storeRecord(current, store)
    if (record === undefined) {
      throw broken(point, store, `point #${current.point} has no store '${store}'`)
    }
    if (record.mode === 'full') return chain
    if (current.parent === null) throw broken(point, store, `point #${current.point} is incremental and has no parent`)
    if (current.parent >= current.point) {
      throw broken(point, store, `point #${current.point} names #${current.parent} as its parent, which is not earlier`)
    }
    const parent = bySlot.get(current.parent)
    if (parent === undefined) throw broken(point, store, `its ancestor #${current.parent} is missing or unreadable`)
    if (parent.machineUuid !== current.machineUuid) {
      throw broken(point, store, `its ancestor #${current.parent} is of another machine (${parent.machineUuid})`)
    }
    current = parent
  }
}

/** The archives that are needed to restore a point whole, itself included. @throws as `storeChain` does. */
export function chainLength(point: PointManifest, bySlot: ReadonlyMap<number, PointManifest>): number {
  const needed = new Set<number>()
  for (const store of point.stores) for (const member of storeChain(point, store.name, bySlot)) needed.add(member.point)
  return needed.size
}

function broken(point: PointManifest, store: string, what: string): RefpointError {
  return new RefpointError(
    'damaged',
    `point #${point.point} of machine '${point.machine}' can't be restored (store '${store}'): ${what}`,
    {
      hint: `Run 'refpoint verify ${point.machine}' to see which points are whole, and restore one of those; 'refpoint salvage' restores what is left of this one.`,
      fields: { machine: point.machine, point: point.point, store },
    },
  )
}
