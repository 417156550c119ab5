import type { Codec } from '../../compress/codec.js'
import { FRAME_CONTENT_BYTES } from '../../model/geometry.js'
import type { ObjectLocation } from '../../model/location.js'
import type { OpenFiles } from './open-files.js'
import { placeFrame } from './place-frame.js'

/** One frame that is read for a few pieces of its content. Bytes. */
export interface RecutSource {
  readonly archive: ObjectLocation
  readonly offset: number
  readonly storedBytes: number
  readonly contentBytes: number
  /** Rows of two: where in the content, and length. */
  readonly pieces: Float64Array
}

/** One new frame: the pieces of its sources back to back, at most 1 MiB. */
export interface RecutJob {
  /** Where the frame goes, FRAME_ROOM bytes. */
  readonly output: SharedArrayBuffer
  readonly sources: readonly RecutSource[]
  readonly level: number
}

export interface RecutFrame {
  readonly frameBytes: number
  readonly contentBytes: number
}

const content = Buffer.alloc(FRAME_CONTENT_BYTES)

/** Cuts what is still needed out of frames that are mostly dead, and makes one frame of it. */
export async function recutFrame(job: RecutJob, files: OpenFiles, codec: Codec): Promise<RecutFrame> {
  let used = 0
  for (const { archive, offset, storedBytes, contentBytes, pieces } of job.sources) {
    const start = used
    const wanted = pieces.reduce((sum, length, i) => (i % 2 === 1 ? sum + length : sum), 0)
    if (start + wanted > content.length) throw new RangeError(`no room for ${wanted} bytes more in a frame`)
    codec.lendDecompressed(files.readArchive(archive, offset, storedBytes), contentBytes, (old) => {
      for (let i = 0; i < pieces.length; i += 2) {
        const at = pieces[i] ?? 0
        const length = pieces[i + 1] ?? 0
        content.set(old.subarray(at, at + length), used)
        used += length
      }
    })
  }
  const frameBytes = codec.lendCompressed(content.subarray(0, used), job.level, (frame) => placeFrame(frame, job.output))
  return { frameBytes, contentBytes: used }
}
