import { expect } from 'vitest'

const sectorBytes = 512

interface Written {
  readonly begun: number
  ended: number
  readonly value: number
}

/**
 * What each sector of a disk may hold after a power cut, from a recording of what was asked of it and when. Sectors are
 * filled with numbers, 0 for zeroes. Moments are those of `recording.now()`.
 */
export class SectorHistory {
  readonly #sectors: Written[][]
  readonly #flushes: { readonly begun: number; readonly ended: number }[] = []

  constructor(sizeBytes: number) {
    this.#sectors = Array.from({ length: sizeBytes / sectorBytes }, () => [{ begun: -1, ended: -1, value: 0 }])
  }

  /** A disk that holds this, durably. */
  static of(content: Buffer): SectorHistory {
    const history = new SectorHistory(content.length)
    const words = new Uint32Array(content.buffer, content.byteOffset, content.length / 4)
    history.#sectors.forEach((_, sector) => {
      history.#sectors[sector] = [{ begun: -1, ended: -1, value: valueOf(words, sector) }]
    })
    return history
  }

  /** A write begins; the function returned says when it ended. */
  write(offset: number, values: readonly number[], begun: number): (ended: number) => void {
    const written = values.map((value, index) => {
      const entry: Written = { begun, ended: Infinity, value }
      this.#sectors[offset / sectorBytes + index]?.push(entry)
      return entry
    })
    return (ended) => {
      for (const entry of written) entry.ended = ended
    }
  }

  /** Everything that had ended at `begun` is durable from `ended` on. */
  flush(begun: number, ended: number): void {
    this.#flushes.push({ begun, ended })
  }

  /** The values as they are when nothing is lost. */
  values(): number[] {
    return this.#sectors.map((entries) => entries.at(-1)?.value ?? 0)
  }

  /** After the power went at `cut`, every sector holds its last flushed value, or one that was written since. */
  expectLegal(content: Buffer, cut: number): void {
    const durable = Math.max(-1, ...this.#flushes.filter(({ ended }) => ended <= cut).map(({ begun }) => begun))
    const words = new Uint32Array(content.buffer, content.byteOffset, content.length / 4)
    this.#sectors.forEach((entries, sector) => {
      const found = valueOf(words, sector)
      if (entries.length === 1 && found === 0) return
      const oldest = entries.findLastIndex(({ ended }) => ended <= durable)
      const legal = entries.slice(Math.max(oldest, 0)).filter(({ begun }) => begun <= cut)
      if (legal.some(({ value }) => value === found)) return
      expect(legal.map(({ value }) => value), `sector ${sector} after a cut at ${cut}`).toContain(found)
    })
  }
}

export function sectorsOf(values: readonly number[]): Buffer {
  const words = new Uint32Array((values.length * sectorBytes) / 4)
  values.forEach((value, sector) => words.fill(value, (sector * sectorBytes) / 4, ((sector + 1) * sectorBytes) / 4))
  return Buffer.from(words.buffer)
}

/** NaN when the sector is a mixture. */
function valueOf(words: Uint32Array, sector: number): number {
  const first = sector * (sectorBytes / 4)
  const value = words[first] ?? Number.NaN
  for (let at = first; at < first + sectorBytes / 4; at += 1) if (words[at] !== value) return Number.NaN
  return value
}
