import { ContentSum } from '../../archive/content-sum.js'
import {
  DIGEST_BLOCK_BYTES,
  DIGEST_BYTES,
  FRAME_CONTENT_BYTES,
  SECTOR_BYTES,
  STATE_DIGEST,
  STATE_UNKNOWN,
  STATE_ZERO,
  WINDOW_BLOCKS,
} from '../../model/geometry.js'
import { KEEP, PIECE_ZERO_BLOCKS, type ReadJob, readBlocks } from '../tasks/read-chunk.js'
import type { Source } from '../../model/source.js'
import type { FrameMemory } from '../frame-memory.js'
import type { ParentDigests } from './parent-digests.js'
import type { Piece } from './pieces.js'

const MAX_BLOCKS = FRAME_CONTENT_BYTES / DIGEST_BLOCK_BYTES
/** Rows of zero pieces that wait in one job at most. */
const MAX_ROWS = 4096

export interface JobBuilderOptions {
  readonly source: Source
  readonly sourceKey: string
  readonly level: number
  readonly frames: FrameMemory
  /** What the parent has, or undefined for a full. */
  readonly parent: ParentDigests | undefined
}

/**
 * Gathers pieces into jobs of at most 1 MiB of digest blocks, never splitting a block between two jobs, and gives each
 * what the parent has. Zeroes that the parent has too are dropped here: they need no reading.
 */
export class JobBuilder {
  /** What whole blocks of zeroes change in the content sum; jobs tell the rest themselves. */
  readonly zeroSum = new ContentSum()
  /** False once a block of unknown digest was replaced: the sum can't be told then. */
  zeroSumKnown = true
  readonly #options: JobBuilderOptions
  #rows: number[] = []
  #blocks = 0
  #lastBlock = -1

  constructor(options: JobBuilderOptions) {
    this.#options = options
  }

  async *jobs(pieces: AsyncIterable<Piece>): AsyncGenerator<ReadJob> {
    for await (const piece of pieces) {
      this.#check(piece)
      if (piece.kind === PIECE_ZERO_BLOCKS) {
        for await (const run of this.#changedZeroes(piece)) {
          if (this.#rows.length >= MAX_ROWS * 3) yield await this.#take()
          this.#rows.push(run.offset, run.length, run.kind)
        }
        continue
      }
      let { offset } = piece
      const end = offset + piece.length
      while (offset < end) {
        const first = Math.floor(offset / DIGEST_BLOCK_BYTES)
        const begun = first === this.#lastBlock ? 1 : 0
        const room = MAX_BLOCKS - this.#blocks + begun
        if (room === 0 || (begun === 0 && this.#rows.length >= MAX_ROWS * 3)) {
          yield await this.#take()
          continue
        }
        const stop = Math.min(end, (first + room) * DIGEST_BLOCK_BYTES)
        this.#rows.push(offset, stop - offset, piece.kind)
        const last = Math.floor((stop - 1) / DIGEST_BLOCK_BYTES)
        this.#blocks += last - first + 1 - begun
        this.#lastBlock = last
        offset = stop
      }
    }
    if (this.#rows.length > 0) yield await this.#take()
  }

  /** The tables count in sectors: a tracker that names anything finer, except the store's end, is broken. */
  #check(piece: Piece): void {
    const end = piece.offset + piece.length
    const { sizeBytes } = this.#options.source
    if (piece.offset % SECTOR_BYTES !== 0 || (end % SECTOR_BYTES !== 0 && end !== sizeBytes) || end > sizeBytes) {
      throw new RangeError(
        `extent ${piece.offset}+${piece.length} is not in whole sectors of a store of ${sizeBytes} bytes`,
      )
    }
  }

  async *#changedZeroes(piece: Piece): AsyncGenerator<Piece> {
    const { parent } = this.#options
    if (parent === undefined) {
      yield piece
      return
    }
    const end = piece.offset + piece.length
    const lastBlock = Math.ceil(end / DIGEST_BLOCK_BYTES)
    let from = -1
    for (let block = piece.offset / DIGEST_BLOCK_BYTES; block < lastBlock;) {
      const window = await parent.windowOf(block)
      const windowEnd = Math.min(lastBlock, (Math.floor(block / WINDOW_BLOCKS) + 1) * WINDOW_BLOCKS)
      for (; block < windowEnd; block++) {
        const index = block % WINDOW_BLOCKS
        const state = window.state[index] ?? 0
        const kept = state !== STATE_ZERO || parent.isForced(block)
        if (state === STATE_DIGEST) this.zeroSum.subtract(block, window.digest(index))
        if (state === STATE_UNKNOWN) this.zeroSumKnown = false
        if (kept && from < 0) from = block * DIGEST_BLOCK_BYTES
        if (!kept && from >= 0) {
          yield { offset: from, length: block * DIGEST_BLOCK_BYTES - from, kind: PIECE_ZERO_BLOCKS }
          from = -1
        }
      }
    }
    if (from >= 0) yield { offset: from, length: end - from, kind: PIECE_ZERO_BLOCKS }
  }

  async #take(): Promise<ReadJob> {
    const pieces = Float64Array.from(this.#rows)
    const { source, sourceKey, level, parent } = this.#options
    const count = this.#blocks
    this.#rows = []
    this.#blocks = 0
    this.#lastBlock = -1
    const output = this.#options.frames.take()
    if (parent === undefined) return { output, source, sourceKey, pieces, expected: null, level }
    const state = new Uint8Array(count)
    const digests = new Uint8Array(count * DIGEST_BYTES)
    let i = 0
    for (const block of readBlocks(pieces)) {
      const window = await parent.windowOf(block)
      const index = block % WINDOW_BLOCKS
      // Of a block that the parent stored in part, nobody knows whether the chain holds what its digest was made of: a
      // tracker may have kept another part to itself, and then only storing it again heals the chain.
      const keep = parent.isForced(block) || window.partly[index] === 1
      state[i] = (window.state[index] ?? 0) | (keep ? KEEP : 0)
      digests.set(window.digest(index), i * DIGEST_BYTES)
      i++
    }
    return { output, source, sourceKey, pieces, expected: { state, digests }, level }
  }
}
