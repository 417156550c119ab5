import { KIND_ZERO } from './geometry.js'
import type { ExtentColumns } from './tables.js'

/**
 * What a chain holds of one window: ascending rows that do not overlap, each from the newest archive that has the
 * sector; what no row covers is zero. Filled from the newest archive to the oldest, in time linear in the rows.
 */
export class ExtentMap {
  /** Sectors of this window that lie within the store. */
  readonly sectors: number
  #rows = new Rows(0)
  /** The rows of the step before, to be written over: a long chain of fragmented points would be all garbage else. */
  #spare = new Rows(0)
  #covered = 0

  constructor(sectors: number) {
    this.sectors = sectors
  }

  /** Number of rows; the columns may have more room than that. */
  get count(): number {
    return this.#rows.count
  }

  /** First sector of each row, counted from the window's start. */
  get start(): Uint32Array {
    return this.#rows.start
  }

  /** Length of each row in sectors. */
  get length(): Uint32Array {
    return this.#rows.length
  }

  /** KIND_DATA or KIND_ZERO. */
  get kind(): Uint8Array {
    return this.#rows.kind
  }

  /** Index of the archive in the chain, as given to `addOlder`. */
  get archive(): Uint16Array {
    return this.#rows.archive
  }

  /** The frame that holds the content. */
  get frame(): Uint32Array {
    return this.#rows.frame
  }

  /** First sector of the content within the frame's content. */
  get at(): Uint32Array {
    return this.#rows.at
  }

  /** Whether every sector has its row, so that older archives need not be asked. */
  get complete(): boolean {
    return this.#covered === this.sectors
  }

  /** Adds what the next older archive has in the gaps; sectors that have a row already keep it. */
  addOlder(rows: ExtentColumns, archive: number): void {
    if (rows.count === 0) return
    const newer = this.#rows
    // Each old row can be cut by the rows above it: at most one more piece for each of those.
    const next = this.#spare.emptied(newer.count * 2 + rows.count + 1)
    let above = 0
    for (let i = 0; i < rows.count; i++) {
      let from = rows.start[i] ?? 0
      const end = Math.min(from + (rows.sectors[i] ?? 0), this.sectors)
      const kind = rows.kind[i] ?? KIND_ZERO
      const frame = rows.frame[i] ?? 0
      const base = (rows.at[i] ?? 0) - from
      while (from < end) {
        while (above < newer.count && newer.endOf(above) <= from) next.copy(newer, above++)
        const wall = above < newer.count ? (newer.start[above] ?? 0) : end
        if (wall <= from) {
          from = newer.endOf(above)
          continue
        }
        const stop = Math.min(end, wall)
        next.push(from, stop - from, kind, archive, frame, kind === KIND_ZERO ? 0 : base + from)
        this.#covered += stop - from
        from = stop
      }
    }
    while (above < newer.count) next.copy(newer, above++)
    this.#rows = next
    this.#spare = newer
  }
}

/** Columns with room for more rows than they have. */
class Rows {
  count = 0
  readonly start: Uint32Array
  readonly length: Uint32Array
  readonly kind: Uint8Array
  readonly archive: Uint16Array
  readonly frame: Uint32Array
  readonly at: Uint32Array

  constructor(room: number) {
    this.start = new Uint32Array(room)
    this.length = new Uint32Array(room)
    this.kind = new Uint8Array(room)
    this.archive = new Uint16Array(room)
    this.frame = new Uint32Array(room)
    this.at = new Uint32Array(room)
  }

  /** These, or larger ones, without rows. With room for some archives more, or each of a long chain would want new ones. */
  emptied(room: number): Rows {
    if (room > this.start.length) return new Rows(Math.ceil(room * 1.5))
    this.count = 0
    return this
  }

  endOf(row: number): number {
    return (this.start[row] ?? 0) + (this.length[row] ?? 0)
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

  copy(from: Rows, row: number): void {
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
