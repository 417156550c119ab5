import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Extent } from '../../src/model/extent.js'
import { DIGEST_BLOCK_BYTES } from '../../src/model/geometry.js'
import { exactPieces, type Piece, wholeBlockPieces } from '../../src/operations/backup/pieces.js'
import { PIECE_DATA, PIECE_ZERO_BLOCKS } from '../../src/operations/tasks/read-chunk.js'

const SECTOR = 512

/** Extents that cover a store of some size without gaps, cut at sectors. */
const covering = fc
  .record({
    sectors: fc.array(fc.tuple(fc.integer({ min: 1, max: 300 }), fc.constantFrom<'data' | 'zero'>('data', 'zero')), {
      minLength: 1,
      maxLength: 12,
    }),
    odd: fc.nat(SECTOR - 1),
  })
  .map(({ sectors, odd }) => {
    let offset = 0
    const extents = sectors.map(([count, kind], i): Extent => {
      const length = count * SECTOR - (i === sectors.length - 1 ? odd : 0)
      const extent = { offset, length, kind }
      offset += length
      return extent
    })
    return { extents, sizeBytes: offset }
  })

async function* stream<T>(items: readonly T[]): AsyncGenerator<T> {
  yield* items
}

async function collect(pieces: AsyncIterable<Piece>): Promise<Piece[]> {
  const list: Piece[] = []
  for await (const piece of pieces) list.push(piece)
  return list
}

function expectAscending(pieces: readonly Piece[]): void {
  for (const [i, piece] of pieces.entries()) {
    expect(piece.length).toBeGreaterThan(0)
    const before = pieces[i - 1]
    if (before !== undefined) expect(piece.offset).toBeGreaterThanOrEqual(before.offset + before.length)
  }
}

function isZeroThroughout(extents: readonly Extent[], from: number, to: number): boolean {
  return extents.every(
    (extent) => extent.kind === 'zero' || extent.offset + extent.length <= from || extent.offset >= to,
  )
}

function expectZeroBlocks(piece: Piece, extents: readonly Extent[], sizeBytes: number): void {
  const end = piece.offset + piece.length
  expect(piece.offset % DIGEST_BLOCK_BYTES).toBe(0)
  expect(end % DIGEST_BLOCK_BYTES === 0 || end === sizeBytes).toBe(true)
  expect(isZeroThroughout(extents, piece.offset, end)).toBe(true)
}

describe('wholeBlockPieces', () => {
  it('covers the store in whole blocks, of which the zero ones are zero throughout', async () => {
    await fc.assert(
      fc.asyncProperty(covering, async ({ extents, sizeBytes }) => {
        const pieces = await collect(wholeBlockPieces(stream(extents), sizeBytes))
        expectAscending(pieces)
        let next = 0
        for (const piece of pieces) {
          expect(piece.offset).toBe(next)
          next = piece.offset + piece.length
          expect(piece.offset % DIGEST_BLOCK_BYTES).toBe(0)
          expect(next % DIGEST_BLOCK_BYTES === 0 || next === sizeBytes).toBe(true)
          if (piece.kind === PIECE_ZERO_BLOCKS) expectZeroBlocks(piece, extents, sizeBytes)
          else expect(piece.kind).toBe(PIECE_DATA)
        }
        expect(next).toBe(sizeBytes)
      }),
    )
  })
})

describe('exactPieces', () => {
  it('keeps every extent as it is, with the whole blocks of zeroes told apart', async () => {
    await fc.assert(
      fc.asyncProperty(covering, fc.nat(2 ** 30), async ({ extents, sizeBytes }, holes) => {
        const named = extents.filter((_, i) => ((holes >> i) & 1) === 0)
        const pieces = await collect(exactPieces(stream(named), sizeBytes))
        expectAscending(pieces)
        const bytes = (list: readonly { offset: number; length: number }[]) =>
          list.reduce((sum, { length }) => sum + length, 0)
        expect(bytes(pieces)).toBe(bytes(named))
        for (const piece of pieces) {
          const extent = named.find(
            ({ offset, length }) => offset <= piece.offset && piece.offset + piece.length <= offset + length,
          )
          expect(extent?.kind).toBe(piece.kind === PIECE_DATA ? 'data' : 'zero')
          if (piece.kind === PIECE_ZERO_BLOCKS) expectZeroBlocks(piece, named, sizeBytes)
        }
      }),
    )
  })
})
