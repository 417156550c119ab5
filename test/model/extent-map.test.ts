import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ExtentMap } from '../../src/model/extent-map.js'
import { KIND_DATA, KIND_ZERO } from '../../src/model/geometry.js'
import type { ExtentColumns } from '../../src/model/tables.js'

const SECTORS = 200

interface Row {
  start: number
  sectors: number
  kind: number
  frame: number
  at: number
}

/** Ascending rows that do not overlap, some of them past the window's end as after a shrink. */
const rowsOfArchive = fc
  .array(
    fc.record({
      gap: fc.nat(20),
      sectors: fc.integer({ min: 1, max: 40 }),
      kind: fc.constantFrom(KIND_DATA, KIND_ZERO),
      frame: fc.nat(9),
      at: fc.nat(100),
    }),
    { maxLength: 12 },
  )
  .map((pieces) => {
    let start = 0
    return pieces.map(({ gap, sectors, kind, frame, at }): Row => {
      const row = {
        start: start + gap,
        sectors,
        kind,
        frame: kind === KIND_ZERO ? 0xffffffff : frame,
        at: kind === KIND_ZERO ? 0 : at,
      }
      start = row.start + sectors
      return row
    })
  })

function columns(rows: readonly Row[]): ExtentColumns {
  const column = (key: keyof Row): Uint32Array => Uint32Array.from(rows, (row) => row[key])
  return {
    count: rows.length,
    start: column('start'),
    sectors: column('sectors'),
    kind: column('kind'),
    frame: column('frame'),
    at: column('at'),
  }
}

/** What each sector is, told the slow way: the newest archive that has it. */
function sectorsOf(archives: readonly (readonly Row[])[]): (string | undefined)[] {
  const sectors: (string | undefined)[] = Array.from({ length: SECTORS }, () => undefined)
  for (const [archive, rows] of archives.entries()) {
    for (const row of rows) {
      for (let n = 0; n < row.sectors && row.start + n < SECTORS; n++) {
        sectors[row.start + n] ??= row.kind === KIND_ZERO ? 'zero' : `${archive}:${row.frame}:${row.at + n}`
      }
    }
  }
  return sectors
}

describe('ExtentMap', () => {
  it('holds of each sector what the newest archive has of it', () => {
    fc.assert(
      fc.property(fc.array(rowsOfArchive, { minLength: 1, maxLength: 6 }), (archives) => {
        const map = new ExtentMap(SECTORS)
        for (const [i, rows] of archives.entries()) map.addOlder(columns(rows), i)
        const found: (string | undefined)[] = Array.from({ length: SECTORS }, () => undefined)
        let last = 0
        for (let i = 0; i < map.count; i++) {
          const start = map.start[i] ?? 0
          expect(start).toBeGreaterThanOrEqual(last)
          last = start + (map.length[i] ?? 0)
          for (let n = 0; n < (map.length[i] ?? 0); n++) {
            found[start + n] =
              map.kind[i] === KIND_ZERO ? 'zero' : `${map.archive[i]}:${map.frame[i]}:${(map.at[i] ?? 0) + n}`
          }
        }
        expect(last).toBeLessThanOrEqual(SECTORS)
        const expected = sectorsOf(archives)
        expect(found).toEqual(expected)
        expect(map.complete).toBe(expected.every((sector) => sector !== undefined))
      }),
    )
  })
})
