import type { Codec } from '../compress/codec.js'
import { FRAME_CONTENT_BYTES } from '../model/geometry.js'
import { filled } from './format.js'

/** A payload frame ready to be written: its compressed bytes and how much content it holds. */
export interface PayloadFrame {
  readonly frame: Uint8Array
  readonly contentBytes: number
  /** Called when the memory of `frame` is no longer read. */
  readonly consumed?: (() => void) | undefined
}

/** Writes one tar member, whole; resolves to the number of its first payload frame. `bytes` is tar's size of it. */
export type WriteMember = (name: string, bytes: number, payload: readonly PayloadFrame[]) => Promise<number>

/** Compresses pieces back to back into frames of exactly 1 MiB, the last filled up to whole sectors with `fill`. */
export function payloadFrames(
  codec: Codec,
  level: number,
  pieces: readonly Uint8Array[],
  fill: number,
): PayloadFrame[] {
  const total = pieces.reduce((sum, piece) => sum + piece.length, 0)
  const content = Buffer.alloc(Math.min(FRAME_CONTENT_BYTES, filled(total)))
  const frames: PayloadFrame[] = []
  let used = 0
  const flush = (contentBytes: number) => {
    frames.push({ frame: codec.compress(content.subarray(0, contentBytes), level), contentBytes })
    used = 0
  }
  for (const piece of pieces) {
    for (let done = 0; done < piece.length; ) {
      const part = piece.subarray(done, done + content.length - used)
      content.set(part, used)
      used += part.length
      done += part.length
      if (used === FRAME_CONTENT_BYTES) flush(used)
    }
  }
  if (used > 0) {
    const end = filled(used)
    content.fill(fill, used, end)
    flush(end)
  }
  return frames
}

/** Content of all frames together. */
export function payloadBytes(payload: readonly PayloadFrame[]): number {
  return payload.reduce((sum, frame) => sum + frame.contentBytes, 0)
}
