import { unitBytes } from './disk.js'

/**
 * What no policy could do without: the whole disks at the oldest point that is kept, and between each two kept points
 * that follow each other every unit that was written, once.
 */
export class Ideal {
  /** Slot to what was written since the slot before it, and what the disks held then. In slot order. */
  #points = new Map()

  add(slot, dirty, heldUnits) {
    this.#points.set(slot, { dirty, heldUnits })
  }

  /** Points that are gone: what was written in them counts for the next that is kept. */
  keep(kept) {
    let carried = new Map()
    for (const [slot, point] of this.#points) {
      if (!kept.has(slot)) {
        carried = union(carried, point.dirty)
        this.#points.delete(slot)
        continue
      }
      if (carried.size > 0) point.dirty = union(carried, point.dirty)
      carried = new Map()
    }
  }

  get bytes() {
    const [oldest, ...later] = this.#points.values()
    if (oldest === undefined) return 0
    const units = later.reduce((sum, { dirty }) => sum + [...dirty.values()].reduce((count, set) => count + set.size, 0), 0)
    return (oldest.heldUnits + units) * unitBytes
  }
}

function union(some, more) {
  const joined = new Map([...some].map(([name, units]) => [name, new Set(units)]))
  for (const [name, units] of more) {
    const known = joined.get(name)
    if (known === undefined) joined.set(name, new Set(units))
    else for (const unit of units) known.add(unit)
  }
  return joined
}
