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
    this.#sectors.forEach((entries, sector) => {
      const found = valueOf(content.subarray(sector * sectorBytes, (sector + 1) * sectorBytes))
      const oldest = entries.findLastIndex(({ ended }) => ended <= durable)
      const legal = entries.slice(Math.max(oldest, 0)).filter(({ begun }) => begun <= cut)
      expect(legal.map(({ value }) => value), `sector ${sector} after a cut at ${cut}`).toContain(found)
    })
  }
}

export function sectorsOf(values: readonly number[]): Buffer {
  return Buffer.concat(values.map((value) => Buffer.from(new Uint32Array(sectorBytes / 4).fill(value).buffer)))
}

function valueOf(sector: Buffer): number {
  const value = sector.readUInt32LE(0)
  return sectorsOf([value]).equals(sector) ? value : Number.NaN
}
