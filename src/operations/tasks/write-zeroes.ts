import { FRAME_CONTENT_BYTES } from '../../model/geometry.js'
import { writeAll } from './decode-frame.js'
import type { OpenFiles } from './open-files.js'

/** A range of an existing target that must read as zeroes. Bytes. */
export interface ZeroJob {
  readonly path: string
  readonly offset: number
  readonly length: number
}

const zeroes = Buffer.alloc(FRAME_CONTENT_BYTES)

/** Writes zeroes for real: what was on the target before must not shine through a hole. */
export async function writeZeroes(job: ZeroJob, files: OpenFiles): Promise<null> {
  const fd = files.openTarget(job.path)
  for (let done = 0; done < job.length; done += zeroes.length) {
    writeAll(fd, zeroes.subarray(0, Math.min(zeroes.length, job.length - done)), job.offset + done)
  }
  return null
}
