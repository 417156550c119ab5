import { readSync } from 'node:fs'
import { DIGEST_BLOCK_BYTES, DIGEST_BYTES } from '../../model/geometry.js'
import { matches } from './decode-frame.js'
import type { OpenFiles } from './open-files.js'

/** Digest blocks that were put together from several frames, to check by reading them back. */
export interface BlocksJob {
  readonly targetPath: string
  /** Rows of three: digest block (absolute), length in bytes, where in the target's file. */
  readonly blocks: Float64Array
  readonly expected: Uint8Array
}

export interface BlocksResult {
  readonly damaged: readonly number[]
}

const buffer = Buffer.alloc(DIGEST_BLOCK_BYTES)

/** Reads blocks back from the target and compares their digests. */
export async function checkBlocks(job: BlocksJob, files: OpenFiles): Promise<BlocksResult> {
  const fd = files.openTarget(job.targetPath)
  const damaged: number[] = []
  for (let i = 0; i < job.blocks.length; i += 3) {
    const block = job.blocks[i] ?? 0
    const length = job.blocks[i + 1] ?? 0
    const offset = job.blocks[i + 2] ?? 0
    let done = 0
    while (done < length) {
      const count = readSync(fd, buffer, done, length - done, offset + done)
      // Past the end of a scratch file there is nothing but zeroes.
      if (count === 0) {
        buffer.fill(0, done, length)
        break
      }
      done += count
    }
    const expected = job.expected.subarray((i / 3) * DIGEST_BYTES, (i / 3 + 1) * DIGEST_BYTES)
    if (!matches(buffer.subarray(0, length), expected)) damaged.push(block)
  }
  return { damaged }
}
