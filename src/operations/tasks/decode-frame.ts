import { writeSync } from 'node:fs'
import type { Codec } from '../../compress/codec.js'
import { DIGEST_BLOCK_BYTES, DIGEST_BYTES } from '../../model/geometry.js'
import type { ObjectLocation } from '../../model/location.js'
import { hasDigest } from './digest.js'
import type { OpenFiles } from './open-files.js'

/** One frame to decode, check and write. Numbers are bytes; rows as in `FrameTask`, but for where `writes` go. */
export interface FrameJob {
  readonly archive: ObjectLocation
  readonly frame: { readonly offset: number; readonly storedBytes: number; readonly contentBytes: number }
  /** Rows: where in the content, length, where in the target's file. */
  readonly writes: Float64Array
  readonly checks: Float64Array
  readonly expected: Uint8Array
  /** The file that is written; null to only check. */
  readonly targetPath: string | null
}

export interface FrameResult {
  /** Why the frame could not be used at all; then nothing was written from it. */
  readonly unreadable: string | null
  /** Digest blocks (absolute) whose content is not what it was at the checkpoint. */
  readonly damaged: readonly number[]
}

const zeroes = Buffer.alloc(DIGEST_BLOCK_BYTES)

/** Decodes one frame, checks the blocks that lie whole in it, and writes its pieces to the target. */
export async function decodeFrame(job: FrameJob, files: OpenFiles, codec: Codec): Promise<FrameResult> {
  let decoded = false
  try {
    const stored = files.readArchive(job.archive, job.frame.offset, job.frame.storedBytes)
    return codec.lendDecompressed(stored, job.frame.contentBytes, (content) => {
      decoded = true
      const damaged = check(job, content)
      write(job, content, files)
      return { unreadable: null, damaged }
    })
  } catch (error) {
    // A target that can't be written is no damage of the archive.
    if (decoded) throw error
    return { unreadable: error instanceof Error ? error.message : String(error), damaged: [] }
  }
}

/** The digest blocks whose content is not what it should be. */
function check({ checks, expected }: FrameJob, content: Uint8Array): readonly number[] {
  const damaged: number[] = []
  for (let i = 0; i < checks.length; i += 3) {
    const at = checks[i] ?? 0
    const bytes = content.subarray(at, at + (checks[i + 1] ?? 0))
    if (!matches(bytes, expected.subarray((i / 3) * DIGEST_BYTES, (i / 3 + 1) * DIGEST_BYTES))) {
      damaged.push(checks[i + 2] ?? 0)
    }
  }
  return damaged
}

function write({ writes, targetPath }: FrameJob, content: Uint8Array, files: OpenFiles): void {
  if (targetPath === null) return
  const fd = files.openTarget(targetPath)
  for (let i = 0; i < writes.length; i += 3) {
    const at = writes[i] ?? 0
    writeAll(fd, content.subarray(at, at + (writes[i + 1] ?? 0)), writes[i + 2] ?? 0)
  }
}

/** Whether a whole digest block has this digest; a digest of only zero bytes stands for a block of zeroes. */
export function matches(bytes: Uint8Array, expected: Uint8Array): boolean {
  if (expected.every((byte) => byte === 0)) {
    return zeroes.compare(bytes, 0, bytes.length, 0, bytes.length) === 0
  }
  return hasDigest(bytes, expected)
}

/** Writes all of it; a device or file that takes only part is asked again, and one that takes nothing is an error. */
export function writeAll(fd: number, bytes: Uint8Array, offset: number): void {
  let done = 0
  while (done < bytes.length) {
    const written = writeSync(fd, bytes, done, bytes.length - done, offset + done)
    if (written === 0) throw new Error(`nothing more can be written at byte ${offset + done}`)
    done += written
  }
}
