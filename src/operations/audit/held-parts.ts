import type { ExtentMap } from '../../model/extent-map.js'
import { DIGEST_BLOCK_BYTES, KIND_DATA, SECTOR_BYTES, WINDOW_BLOCKS } from '../../model/geometry.js'
import { archiveAt, type StoreChain, storedFrame } from '../chain-reader.js'
import type { PartsFrame } from '../tasks/check-parts.js'

const BLOCK_SECTORS = DIGEST_BLOCK_BYTES / SECTOR_BYTES

/** Which frames of a chain hold what of some blocks; keeps one window's map in memory, so ask in ascending order. */
export class HeldParts {
  readonly #chain: StoreChain
  #window: { readonly index: number; readonly map: ExtentMap } | undefined

  constructor(chain: StoreChain) {
    this.#chain = chain
  }

  /** @param blocks absolute and ascending, all of one window; pieces are placed as if they lay back to back. */
  async framesOf(blocks: readonly number[]): Promise<readonly PartsFrame[]> {
    const [first = 0] = blocks
    const index = Math.floor(first / WINDOW_BLOCKS)
    if (this.#window?.index !== index) this.#window = { index, map: (await this.#chain.window(index)).map }
    const { map } = this.#window
    const pieces = new Map<string, { archive: number; frame: number; rows: number[] }>()
    for (const [i, block] of blocks.entries()) {
      const from = (block % WINDOW_BLOCKS) * BLOCK_SECTORS
      const end = from + BLOCK_SECTORS
      for (let row = firstAt(map, from); row < map.count; row++) {
        const start = map.start[row] ?? 0
        if (start >= end) break
        if (map.kind[row] !== KIND_DATA) continue
        const pieceStart = Math.max(start, from)
        const pieceEnd = Math.min(start + (map.length[row] ?? 0), end)
        const archive = map.archive[row] ?? 0
        const frame = map.frame[row] ?? 0
        const entry = pieces.get(`${archive}:${frame}`) ?? { archive, frame, rows: [] }
        pieces.set(`${archive}:${frame}`, entry)
        entry.rows.push(
          ((map.at[row] ?? 0) + (pieceStart - start)) * SECTOR_BYTES,
          (pieceEnd - pieceStart) * SECTOR_BYTES,
          i * DIGEST_BLOCK_BYTES + (pieceStart - from) * SECTOR_BYTES,
        )
      }
    }
    return [...pieces.values()].map(({ archive: index, frame, rows }) => {
      const archive = archiveAt(this.#chain, index)
      return { ...storedFrame(archive, frame), name: archive.point.archive.name, pieces: Float64Array.from(rows) }
    })
  }
}

/** The first row that ends past this sector. */
function firstAt(map: ExtentMap, sector: number): number {
  let low = 0
  let high = map.count
  while (low < high) {
    const middle = (low + high) >> 1
    if ((map.start[middle] ?? 0) + (map.length[middle] ?? 0) <= sector) low = middle + 1
    else high = middle
  }
  return low
}
