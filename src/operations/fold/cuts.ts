import type { ExtentMap } from '../../model/extent-map.js'
import { FRAME_CONTENT_BYTES, SECTOR_BYTES } from '../../model/geometry.js'
import { archiveAt, type StoreChain, storedFrame } from '../chain-reader.js'
import type { RecutSource } from '../tasks/recut-frame.js'

/** One new frame, to be cut out of old ones. */
export interface Cut {
  readonly sources: readonly RecutSource[]
  /** Bytes that making it holds. */
  readonly bytes: number
  /** Its count in the store; given when it is its turn. */
  frame: number
}

/** The rows of one window whose content is cut out of its frames; content of one old frame stays together. */
export class Cuts {
  readonly #chain: StoreChain
  /** Rows by old frame, in the order in which frames are first met. */
  readonly #byFrame = new Map<string, { readonly archive: number; readonly frame: number; readonly rows: number[] }>()
  readonly #lengths = new Map<number, { readonly at: number; readonly sectors: number }>()
  readonly #places = new Map<number, { readonly cut: Cut; readonly at: number }>()

  constructor(chain: StoreChain) {
    this.#chain = chain
  }

  add(map: ExtentMap, row: number): void {
    const archive = map.archive[row] ?? 0
    const frame = map.frame[row] ?? 0
    const key = `${archive}:${frame}`
    const known = this.#byFrame.get(key)
    if (known === undefined) this.#byFrame.set(key, { archive, frame, rows: [row] })
    else known.rows.push(row)
    this.#lengths.set(row, { at: map.at[row] ?? 0, sectors: map.length[row] ?? 0 })
  }

  /** The new frames that these rows need. What one old frame still holds is never more than fits into a new one. */
  plan(): readonly Cut[] {
    const limit = FRAME_CONTENT_BYTES / SECTOR_BYTES
    const cuts: Cut[] = []
    let open: { sources: RecutSource[]; bytes: number; frame: number } | undefined
    let used = 0
    for (const { archive, frame, rows } of this.#byFrame.values()) {
      const sectors = rows.reduce((sum, row) => sum + (this.#lengths.get(row)?.sectors ?? 0), 0)
      if (open === undefined || used + sectors > limit) {
        open = { sources: [], bytes: 0, frame: -1 }
        cuts.push(open)
        used = 0
      }
      const pieces = new Float64Array(rows.length * 2)
      for (const [i, row] of rows.entries()) {
        const { at = 0, sectors: length = 0 } = this.#lengths.get(row) ?? {}
        pieces.set([at * SECTOR_BYTES, length * SECTOR_BYTES], i * 2)
        this.#places.set(row, { cut: open, at: used })
        used += length
      }
      const source = { ...storedFrame(archiveAt(this.#chain, archive), frame), pieces }
      open.sources.push(source)
      open.bytes += source.storedBytes + source.contentBytes
    }
    return cuts
  }

  /** Where the content of a row is: the new frame's count, and the sector in its content. */
  placeOf(row: number): readonly [frame: number, at: number] {
    const place = this.#places.get(row)
    if (place === undefined || place.cut.frame < 0) throw new RangeError(`row ${row} was not cut`)
    return [place.cut.frame, place.at]
  }
}
