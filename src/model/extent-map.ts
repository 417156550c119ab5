import { KIND_ZERO } from './geometry.js'
import type { ExtentColumns } from './tables.js'

/**
 * What a chain holds of one window: ascending rows that do not overlap, each from the newest archive that has the
 * sector; what no row covers is zero. Filled from the newest archive to the oldest, in time linear in the rows.
 */
export class ExtentMap {
  /** Sectors of this window that lie within the store. */
  readonly sectors: number
  count = 0
  start = new Uint32Array(0)
  length = new Uint32Array(0)
  kind = new Uint8Array(0)
  /** Index of the archive in the chain, as given to `addOlder`. */
  archive = new Uint16Array(0)
  frame = new Uint32Array(0)
  at = new Uint32Array(0)
  #covered = 0

  constructor(sectors: number) {
    this.sectors = sectors
  }

  /** Whether every sector has its row, so that older archives need not be asked. */
  get complete(): boolean {
    return this.#covered === this.sectors
  }

  /** Adds what the next older archive has in the gaps; sectors that have a row already keep it. */
  addOlder(rows: ExtentColumns, archive: number): void {
    if (rows.count === 0) return
    // Each old row can be cut by the rows above it: at most one more piece for each of those.
    const room = this.count * 2 + rows.count + 1
    const next = new ExtentMapBuilder(room)
    let above = 0
    for (let i = 0; i < rows.count; i++) {
      let from = rows.start[i] ?? 0
      const end = Math.min(from + (rows.sectors[i] ?? 0), this.sectors)
      const kind = rows.kind[i] ?? KIND_ZERO
      const frame = rows.frame[i] ?? 0
      const base = (rows.at[i] ?? 0) - from
      while (from < end) {
        while (above < this.count && (this.start[above] ?? 0) + (this.length[above] ?? 0) <= from) {
          next.copy(this, above++)
        }
        const wall = above < this.count ? (this.start[above] ?? 0) : end
        if (wall <= from) {
          from = (this.start[above] ?? 0) + (this.length[above] ?? 0)
          continue
        }
        const stop = Math.min(end, wall)
        next.push(from, stop - from, kind, archive, frame, kind === KIND_ZERO ? 0 : base + from)
        this.#covered += stop - from
        from = stop
      }
    }
    while (above < this.count) next.copy(this, above++)
    this.count = next.count
    this.start = next.start
    this.length = next.length
    this.kind = next.kind
    this.archive = next.archive
    this.frame = next.frame
    this.at = next.at
  }
}

/** Columns under construction, sized once. */
class ExtentMapBuilder {
  count = 0
  readonly start: Uint32Array<ArrayBuffer>
  readonly length: Uint32Array<ArrayBuffer>
  readonly kind: Uint8Array<ArrayBuffer>
  readonly archive: Uint16Array<ArrayBuffer>
  readonly frame: Uint32Array<ArrayBuffer>
  readonly at: Uint32Array<ArrayBuffer>

  constructor(room: number) {
    this.start = new Uint32Array(room)
    this.length = new Uint32Array(room)
    this.kind = new Uint8Array(room)
    this.archive = new Uint16Array(room)
    this.frame = new Uint32Array(room)
    this.at = new Uint32Array(room)
  }

  push(start: number, length: number, kind: number, archive: number, frame: number, at: number): void {
    const n = this.count++
    this.start[n] = start
    this.length[n] = length
    this.kind[n] = kind
    this.archive[n] = archive
    this.frame[n] = frame
    this.at[n] = at
  }

  copy(from: ExtentMap, row: number): void {
    this.push(
      from.start[row] ?? 0,
      from.length[row] ?? 0,
      from.kind[row] ?? 0,
      from.archive[row] ?? 0,
      from.frame[row] ?? 0,
      from.at[row] ?? 0,
    )
  }
}
