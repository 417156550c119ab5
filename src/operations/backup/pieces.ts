import type { Extent } from '../../model/extent.js'
import { DIGEST_BLOCK_BYTES } from '../../model/geometry.js'
import { PIECE_DATA, PIECE_ZERO_BLOCKS, PIECE_ZERO_PART } from '../tasks/read-chunk.js'

/** A piece of a job; kind is PIECE_*. Bytes. */
export interface Piece {
  readonly offset: number
  readonly length: number
  readonly kind: number
}

/**
 * Cuts extents that cover a range without gaps into whole digest blocks: for fulls and compared stores, whose points
 * hold whole blocks. A block is a zero piece only if one zero extent covers all of it.
 * @param sizeBytes of the store: its last block may be short.
 */
export async function* wholeBlockPieces(extents: AsyncIterable<Extent>, sizeBytes: number): AsyncGenerator<Piece> {
  let done = 0
  for await (const extent of extents) {
    const end = Math.min(extent.offset + extent.length, sizeBytes)
    const from = Math.max(done, floorBlock(extent.offset))
    if (from >= end) continue
    if (extent.kind === 'data') {
      done = ceilBlock(end, sizeBytes)
      yield { offset: from, length: done - from, kind: PIECE_DATA }
      continue
    }
    const zeroFrom = Math.max(from, ceilBlock(extent.offset, sizeBytes))
    const zeroTo = end === sizeBytes ? end : floorBlock(end)
    if (zeroFrom >= zeroTo) {
      done = ceilBlock(end, sizeBytes)
      yield { offset: from, length: done - from, kind: PIECE_DATA }
      continue
    }
    if (from < zeroFrom) yield { offset: from, length: zeroFrom - from, kind: PIECE_DATA }
    yield { offset: zeroFrom, length: zeroTo - zeroFrom, kind: PIECE_ZERO_BLOCKS }
    done = zeroTo
    if (zeroTo < end) {
      done = ceilBlock(end, sizeBytes)
      yield { offset: zeroTo, length: done - zeroTo, kind: PIECE_DATA }
    }
  }
}

/**
 * Cuts extents as they are: for tracked stores, whose points hold what the tracker named and no more. Zero extents are
 * split into the digest blocks that they cover whole, which need no reading, and the parts of others.
 */
export async function* exactPieces(extents: AsyncIterable<Extent>, sizeBytes: number): AsyncGenerator<Piece> {
  for await (const extent of extents) {
    const { offset } = extent
    const end = Math.min(offset + extent.length, sizeBytes)
    if (offset >= end) continue
    if (extent.kind === 'data') {
      yield { offset, length: end - offset, kind: PIECE_DATA }
      continue
    }
    const zeroFrom = ceilBlock(offset, sizeBytes)
    const zeroTo = end === sizeBytes ? end : floorBlock(end)
    if (zeroFrom >= zeroTo) {
      yield { offset, length: end - offset, kind: PIECE_ZERO_PART }
      continue
    }
    if (offset < zeroFrom) yield { offset, length: zeroFrom - offset, kind: PIECE_ZERO_PART }
    yield { offset: zeroFrom, length: zeroTo - zeroFrom, kind: PIECE_ZERO_BLOCKS }
    if (zeroTo < end) yield { offset: zeroTo, length: end - zeroTo, kind: PIECE_ZERO_PART }
  }
}

function floorBlock(offset: number): number {
  return offset - (offset % DIGEST_BLOCK_BYTES)
}

function ceilBlock(offset: number, sizeBytes: number): number {
  return Math.min(Math.ceil(offset / DIGEST_BLOCK_BYTES) * DIGEST_BLOCK_BYTES, sizeBytes)
}
