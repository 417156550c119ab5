import type { Chunk } from '../../archive/chunk.js'
import { ContentSum } from '../../archive/content-sum.js'
import type { Codec } from '../../compress/codec.js'
import { RefpointError } from '../../model/errors.js'
import {
  DIGEST_BLOCK_BYTES,
  DIGEST_BYTES,
  FRAME_CONTENT_BYTES,
  KIND_DATA,
  KIND_ZERO,
  hasDigests,
  SECTOR_BYTES,
  STATE_DIGEST,
  STATE_PARTLY,
  STATE_UNKNOWN,
  STATE_ZERO,
} from '../../model/geometry.js'
import { describeSource, type Source, type SourceReader } from '../../model/source.js'
import { digestInto } from './digest.js'
import { placeFrame } from './place-frame.js'

/** Kinds of a job's pieces: content to read, whole digest blocks of zeroes, or zeroes within a block that is read. */
export const PIECE_DATA = KIND_DATA
export const PIECE_ZERO_BLOCKS = KIND_ZERO
export const PIECE_ZERO_PART = 3

/** Added to an expected state: the block is kept even if its content is what it was. */
export const KEEP = 0x80

/** One worker's piece of a backup: at most 1 MiB of digest blocks to read. Offsets and lengths in bytes. */
export interface ReadJob {
  /** Where the frame goes, FRAME_ROOM bytes: memory of the caller's, so that nobody has to allocate or copy it. */
  readonly output: SharedArrayBuffer
  readonly source: Source
  /** Names the store of this run: what a worker keeps open is told apart by it. */
  readonly sourceKey: string
  /** Rows of three: offset, length, PIECE_*; ascending. Blocks touched by other than PIECE_ZERO_BLOCKS are read whole. */
  readonly pieces: Float64Array
  /** What the parent has for each block that is read, in order: STATE_*, and KEEP; null when there is no parent. */
  readonly expected: { readonly state: Uint8Array; readonly digests: Uint8Array } | null
  readonly level: number
}

/** A chunk whose frame is in its job's `output`. */
export interface ReadChunk extends Omit<Chunk, 'frame'> {
  /** Length of the frame; 0 when there is no content. */
  readonly frameBytes: number
  /** Hex: what this chunk adds to the store's content sum; null where an unknown digest was replaced. */
  readonly sumChange: string | null
  readonly readBytes: number
  /** Blocks that were dropped because their digest is the parent's. */
  readonly equalBlocks: number
}

/** Room for the frame of any chunk: zstd's bound for 1 MiB is some 4 KiB more. */
export const FRAME_ROOM = FRAME_CONTENT_BYTES + 65_536

// Each worker reads into buffers of its own, once allocated.
const blocksBuffer = Buffer.alloc(FRAME_CONTENT_BYTES)
const contentBuffer = Buffer.alloc(FRAME_CONTENT_BYTES)
const digestBuffer = Buffer.alloc((FRAME_CONTENT_BYTES / DIGEST_BLOCK_BYTES) * DIGEST_BYTES)
const zeroes = Buffer.alloc(DIGEST_BLOCK_BYTES)

/** How many blocks a job reads: those that pieces other than PIECE_ZERO_BLOCKS touch. */
export function* readBlocks(pieces: Float64Array): Generator<number> {
  let next = 0
  for (let i = 0; i < pieces.length; i += 3) {
    if (pieces[i + 2] === PIECE_ZERO_BLOCKS) continue
    const offset = pieces[i] ?? 0
    const end = offset + (pieces[i + 1] ?? 0)
    for (let b = Math.max(next, Math.floor(offset / DIGEST_BLOCK_BYTES)); b * DIGEST_BLOCK_BYTES < end; b++) {
      yield b
      next = b + 1
    }
  }
}

/** Reads, tells zeroes, digests, drops what the parent has, and compresses: everything that is done to payload. */
export async function readChunk(job: ReadJob, reader: SourceReader, codec: Codec): Promise<ReadChunk> {
  const blocks = Array.from(readBlocks(job.pieces))
  const chunk = new ChunkBuilder()
  await readAll(blocks, job.source, reader)
  const covered = coveredBytes(job.pieces)
  const verdicts = new Map<number, { readonly at: number; readonly zero: boolean; readonly kept: boolean }>()
  blocks.forEach((block, i) => {
    const length = Math.min(DIGEST_BLOCK_BYTES, job.source.sizeBytes - block * DIGEST_BLOCK_BYTES)
    const at = i * DIGEST_BLOCK_BYTES
    const bytes = blocksBuffer.subarray(at, at + length)
    const whole = (covered.get(block) ?? 0) === length
    verdicts.set(block, { at, ...chunk.judge(block, bytes, i, job.expected, whole) })
  })
  let zeroed = -1
  for (let i = 0; i < job.pieces.length; i += 3) {
    const offset = job.pieces[i] ?? 0
    const end = offset + (job.pieces[i + 1] ?? 0)
    const kind = job.pieces[i + 2] ?? 0
    if (kind === PIECE_ZERO_BLOCKS) {
      chunk.zeroBlocks(offset, end)
      continue
    }
    for (let block = Math.floor(offset / DIGEST_BLOCK_BYTES); block * DIGEST_BLOCK_BYTES < end; block++) {
      const verdict = verdicts.get(block)
      if (verdict === undefined || !verdict.kept) continue
      const blockOffset = block * DIGEST_BLOCK_BYTES
      if (verdict.zero) {
        // All of it, whatever was named: zeroes cost nothing, and what the chain holds of the block is right for sure.
        if (block !== zeroed) {
          chunk.extent(blockOffset, Math.min(blockOffset + DIGEST_BLOCK_BYTES, job.source.sizeBytes), KIND_ZERO)
        }
        zeroed = block
        continue
      }
      const from = Math.max(offset, blockOffset)
      const to = Math.min(end, blockOffset + DIGEST_BLOCK_BYTES)
      const start = verdict.at + (from - blockOffset)
      const zero = kind === PIECE_ZERO_PART || isZero(blocksBuffer.subarray(start, start + (to - from)))
      if (zero) chunk.extent(from, to, KIND_ZERO)
      else chunk.data(from, to, start)
    }
  }
  return chunk.finish(codec, job, blocks.length * DIGEST_BLOCK_BYTES)
}

/** How much of each block that is read the pieces name, in bytes. */
function coveredBytes(pieces: Float64Array): Map<number, number> {
  const covered = new Map<number, number>()
  for (let i = 0; i < pieces.length; i += 3) {
    if (pieces[i + 2] === PIECE_ZERO_BLOCKS) continue
    const offset = pieces[i] ?? 0
    const end = offset + (pieces[i + 1] ?? 0)
    for (let from = offset; from < end;) {
      const block = Math.floor(from / DIGEST_BLOCK_BYTES)
      const to = Math.min(end, (block + 1) * DIGEST_BLOCK_BYTES)
      covered.set(block, (covered.get(block) ?? 0) + (to - from))
      from = to
    }
  }
  return covered
}

async function readAll(blocks: readonly number[], source: Source, reader: SourceReader): Promise<void> {
  const { sizeBytes } = source
  for (let i = 0; i < blocks.length;) {
    let j = i + 1
    while (j < blocks.length && blocks[j] === (blocks[i] ?? 0) + (j - i)) j++
    const offset = (blocks[i] ?? 0) * DIGEST_BLOCK_BYTES
    const length = Math.min((j - i) * DIGEST_BLOCK_BYTES, sizeBytes - offset)
    try {
      const pending = reader.read(blocksBuffer.subarray(i * DIGEST_BLOCK_BYTES, i * DIGEST_BLOCK_BYTES + length), offset)
      if (pending !== undefined) await pending
    } catch (error) {
      throw unreadable(source, offset, length, error)
    }
    i = j
  }
}

/** The system says only that a read failed: where it was tells which disk to look at. What is in words already stays. */
function unreadable(source: Source, offset: number, length: number, error: unknown): unknown {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  if (error instanceof RefpointError || typeof code !== 'string') return error
  const path = describeSource(source)
  return new RefpointError('io', `${path} can't be read at bytes ${offset} to ${offset + length} of the disk (${code})`, {
    hint: 'Nothing was committed. See dmesg for what the disk below says, and save what is on it.',
    cause: error,
    fields: { path, offset, length, system: code },
  })
}

function isZero(bytes: Uint8Array): boolean {
  return zeroes.compare(bytes, 0, bytes.length, 0, bytes.length) === 0
}

class ChunkBuilder {
  readonly #extents: number[] = []
  readonly #runs: number[] = []
  readonly #sum = new ContentSum()
  #digests = 0
  #sumKnown = true
  /** Content as long as it lies in one piece of the blocks that were read, as in most fulls; null when it was copied. */
  #inPlace: { readonly start: number; end: number } | null = null
  #content = 0
  #equal = 0

  /** Decides on one block that was read: what it is, and whether it belongs into the point; `whole`: all of it was named. */
  judge(
    block: number,
    bytes: Buffer,
    index: number,
    expected: ReadJob['expected'],
    whole: boolean,
  ): { zero: boolean; kept: boolean } {
    const zero = isZero(bytes)
    const digest = digestBuffer.subarray(this.#digests * DIGEST_BYTES, (this.#digests + 1) * DIGEST_BYTES)
    if (!zero) digestInto(digest, bytes)
    const before = expected?.state[index] ?? 0
    const state = before & ~KEEP
    const old = expected?.digests.subarray(index * DIGEST_BYTES, (index + 1) * DIGEST_BYTES)
    if ((before & KEEP) === 0) {
      const same = zero ? state === STATE_ZERO : state === STATE_DIGEST && old !== undefined && digest.equals(old)
      if (same) {
        this.#equal++
        return { zero, kept: false }
      }
    }
    if (state === STATE_UNKNOWN) this.#sumKnown = false
    if (state === STATE_DIGEST && old !== undefined) this.#sum.subtract(block, old)
    if (!zero) {
      this.#sum.add(block, digest)
      this.#digests++
    }
    this.run(block, 1, zero ? STATE_ZERO : whole ? STATE_DIGEST : STATE_PARTLY)
    return { zero, kept: true }
  }

  zeroBlocks(offset: number, end: number): void {
    this.extent(offset, end, KIND_ZERO)
    const first = offset / DIGEST_BLOCK_BYTES
    this.run(first, Math.ceil(end / DIGEST_BLOCK_BYTES) - first, STATE_ZERO)
  }

  run(first: number, count: number, state: number): void {
    this.#runs.push(first, count, state)
  }

  extent(from: number, to: number, kind: number, at = 0): void {
    const rows = this.#extents
    const n = rows.length - 4
    const joins =
      n >= 0 &&
      rows[n + 2] === kind &&
      (rows[n] ?? 0) + (rows[n + 1] ?? 0) === from &&
      (kind === KIND_ZERO || (rows[n + 3] ?? 0) + (rows[n + 1] ?? 0) === at)
    if (joins) rows[n + 1] = (rows[n + 1] ?? 0) + (to - from)
    else rows.push(from, to - from, kind, at)
  }

  /** Takes the bytes of `blocksBuffer` from `start` on as the content of an extent. */
  data(from: number, to: number, start: number): void {
    const length = to - from
    const filled = Math.ceil(length / SECTOR_BYTES) * SECTOR_BYTES
    this.extent(from, to, KIND_DATA, this.#content)
    if (this.#content === 0) this.#inPlace = { start, end: start }
    if (this.#inPlace?.end === start && filled === length) this.#inPlace.end += length
    else {
      if (this.#inPlace !== null) blocksBuffer.copy(contentBuffer, 0, this.#inPlace.start, this.#inPlace.end)
      this.#inPlace = null
      blocksBuffer.copy(contentBuffer, this.#content, start, start + length)
      contentBuffer.fill(0, this.#content + length, this.#content + filled)
    }
    this.#content += filled
  }

  finish(codec: Codec, { level, output }: ReadJob, readBytes: number): ReadChunk {
    const sorted = sortRuns(this.#runs, this.#digests)
    let frameBytes = 0
    if (this.#content > 0) {
      const { start, end } = this.#inPlace ?? { start: 0, end: this.#content }
      const content = (this.#inPlace === null ? contentBuffer : blocksBuffer).subarray(start, end)
      frameBytes = codec.lendCompressed(content, level, (frame) => placeFrame(frame, output))
    }
    return {
      frameBytes,
      contentBytes: this.#content,
      extents: Float64Array.from(this.#extents),
      runs: sorted,
      digests: Uint8Array.from(digestBuffer.subarray(0, this.#digests * DIGEST_BYTES)),
      sumChange: this.#sumKnown ? this.#sum.toHex() : null,
      readBytes,
      equalBlocks: this.#equal,
    }
  }
}

/** Runs of blocks that were read come before runs of zero blocks as they are made; the table wants them ascending. */
function sortRuns(runs: readonly number[], digests: number): Float64Array {
  const rows: [number, number, number][] = []
  for (let i = 0; i < runs.length; i += 3) rows.push([runs[i] ?? 0, runs[i + 1] ?? 0, runs[i + 2] ?? 0])
  // Digests are in the order of their blocks already, and runs with digests are one block each.
  if (rows.filter(([, , state]) => hasDigests(state)).length !== digests) {
    throw new RangeError('a block has a digest and no run')
  }
  rows.sort(([a], [b]) => a - b)
  const flat = new Float64Array(runs.length)
  rows.forEach((row, i) => flat.set(row, i * 3))
  return flat
}
