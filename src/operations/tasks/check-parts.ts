import type { Codec } from '../../compress/codec.js'
import { RefpointError } from '../../model/errors.js'
import { DIGEST_BLOCK_BYTES, FRAME_CONTENT_BYTES } from '../../model/geometry.js'
import type { ObjectLocation } from '../../model/location.js'
import type { Source, SourceReader } from '../../model/source.js'
import type { OpenFiles } from './open-files.js'

/** A frame that holds pieces of the blocks at hand. Bytes. */
export interface PartsFrame {
  readonly archive: ObjectLocation
  /** The archive's name in the repository, for errors. */
  readonly name: string
  readonly offset: number
  readonly storedBytes: number
  readonly contentBytes: number
  /** Rows of three: where in the content, length, where in the blocks, which lie back to back. */
  readonly pieces: Float64Array
}

/** At most 1 MiB of digest blocks, as a chain holds them and as they are now, to compare. */
export interface PartsJob {
  readonly source: Source
  readonly sourceKey: string
  /** Digest blocks (absolute), ascending. */
  readonly blocks: readonly number[]
  /** What the blocks are put together from; what no piece covers is zero. */
  readonly frames: readonly PartsFrame[]
  /** Rows of two, ascending: offset on the store and length of what may differ. */
  readonly named: Float64Array
}

export interface PartsResult {
  /** Blocks (absolute) that differ where nobody said so. */
  readonly differing: readonly number[]
}

const held = Buffer.alloc(FRAME_CONTENT_BYTES)
const present = Buffer.alloc(DIGEST_BLOCK_BYTES)

/** Puts blocks together from their frames, and compares them with the source wherever nothing was named. */
export async function checkParts(
  job: PartsJob,
  reader: SourceReader,
  files: OpenFiles,
  codec: Codec,
): Promise<PartsResult> {
  const { blocks, source } = job
  held.fill(0, 0, blocks.length * DIGEST_BLOCK_BYTES)
  for (const frame of job.frames) place(frame, files, codec)
  const differing: number[] = []
  for (const [i, block] of blocks.entries()) {
    const offset = block * DIGEST_BLOCK_BYTES
    const now = present.subarray(0, Math.min(DIGEST_BLOCK_BYTES, source.sizeBytes - offset))
    const pending = reader.read(now, offset)
    if (pending !== undefined) await pending
    const then = held.subarray(i * DIGEST_BLOCK_BYTES, i * DIGEST_BLOCK_BYTES + now.length)
    if (differs(then, now, offset, job.named)) differing.push(block)
  }
  return { differing }
}

function place(frame: PartsFrame, files: OpenFiles, codec: Codec): void {
  const { archive, name, offset, storedBytes, contentBytes, pieces } = frame
  try {
    codec.lendDecompressed(files.readArchive(archive, offset, storedBytes), contentBytes, (content) => {
      for (let i = 0; i < pieces.length; i += 3) {
        const at = pieces[i] ?? 0
        held.set(content.subarray(at, at + (pieces[i + 1] ?? 0)), pieces[i + 2] ?? 0)
      }
    })
  } catch (error) {
    const what = error instanceof Error ? error.message : String(error)
    throw new RefpointError('damaged', `a frame of archive ${name} can't be read: ${what}`, {
      hint: "'refpoint verify' lists what is whole.",
      cause: error,
      fields: { archive: name },
    })
  }
}

function differs(then: Buffer, now: Buffer, offset: number, named: Float64Array): boolean {
  let done = 0
  for (let i = 0; i < named.length; i += 2) {
    const from = (named[i] ?? 0) - offset
    const to = from + (named[i + 1] ?? 0)
    if (to <= 0) continue
    if (from >= now.length) break
    if (from > done && then.compare(now, done, from, done, from) !== 0) return true
    done = Math.max(done, to)
  }
  return done < now.length && then.compare(now, done, now.length, done, now.length) !== 0
}
