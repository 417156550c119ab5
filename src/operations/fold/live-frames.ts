import { KIND_DATA, SECTOR_BYTES } from '../../model/geometry.js'
import type { StoreChain } from '../chain-reader.js'

/** What becomes of a frame: `copy` it as it is stored, or `cut` out of it what is still needed. */
export type FrameFate = 'copy' | 'cut'

/** Of what is copied as it is stored, at least this part is needed. */
export const copiedLiveLimit = 3 / 4
/** Frames of which less is needed are cut, so that leftovers of many small points are gathered in few frames. */
const smallBytes = 128 * 1024
const steps = 256

/**
 * How much of each frame of a part of a chain is still needed, and what is done with it. Two bytes of memory a frame.
 */
export class LiveFrames {
  /** Sectors that are needed of each frame, by archive and frame. */
  readonly #live: readonly Uint16Array[]
  readonly #chain: StoreChain
  readonly #threshold: number

  private constructor(chain: StoreChain, live: readonly Uint16Array[]) {
    this.#chain = chain
    this.#live = live
    this.#threshold = this.#chooseThreshold()
  }

  /** Goes through all tables once. */
  static async count(chain: StoreChain, signal: AbortSignal): Promise<LiveFrames> {
    const live = chain.archives.map(({ reader }) => new Uint16Array(reader.frames.count))
    for (const window of chain.windows()) {
      signal.throwIfAborted()
      const { map } = await chain.window(window)
      for (let row = 0; row < map.count; row += 1) {
        if (map.kind[row] !== KIND_DATA) continue
        const frames = live[map.archive[row] ?? 0]
        const frame = map.frame[row] ?? 0
        if (frames !== undefined) frames[frame] = (frames[frame] ?? 0) + (map.length[row] ?? 0)
      }
    }
    return new LiveFrames(chain, live)
  }

  fate(archive: number, frame: number): FrameFate {
    const live = this.#live[archive]?.[frame] ?? 0
    return isSmall(live) || this.#share(archive, frame, live) < this.#threshold ? 'cut' : 'copy'
  }

  #share(archive: number, frame: number, live: number): number {
    const content = this.#chain.archives[archive]?.reader.frames.contentBytes(frame) ?? 0
    return Math.floor(((live * SECTOR_BYTES) / content) * steps)
  }

  /** The deadest frames are cut, and no more of them than it takes for the rest to be needed to three quarters. */
  #chooseThreshold(): number {
    const liveBytes = new Float64Array(steps + 1)
    const contentBytes = new Float64Array(steps + 1)
    for (const [archive, frames] of this.#live.entries()) {
      for (const [frame, live] of frames.entries()) {
        if (live === 0 || isSmall(live)) continue
        const share = this.#share(archive, frame, live)
        liveBytes[share] = (liveBytes[share] ?? 0) + live * SECTOR_BYTES
        contentBytes[share] =
          (contentBytes[share] ?? 0) + (this.#chain.archives[archive]?.reader.frames.contentBytes(frame) ?? 0)
      }
    }
    let live = liveBytes.reduce((sum, bytes) => sum + bytes, 0)
    let content = contentBytes.reduce((sum, bytes) => sum + bytes, 0)
    let threshold = 0
    while (threshold <= steps && live < content * copiedLiveLimit) {
      live -= liveBytes[threshold] ?? 0
      content -= contentBytes[threshold] ?? 0
      threshold += 1
    }
    return threshold
  }
}

function isSmall(liveSectors: number): boolean {
  return liveSectors * SECTOR_BYTES < smallBytes
}
