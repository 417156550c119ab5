import { FRAME_CONTENT_BYTES } from '../model/geometry.js'

/**
 * Contents of table frames that were read last, limited in bytes over all archives that share it: small windows share
 * a frame, and going through a long chain window by window must not hold a frame of every archive.
 */
export class FrameCache {
  readonly #limitBytes: number
  readonly #entries = new Map<string, Uint8Array>()
  #bytes = 0
  #owners = 0

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes
  }

  /** A number that tells this archive's frames from others'. */
  register(): number {
    return this.#owners++
  }

  /**
   * Whether one frame of every archive fits: going through them window by window, each would otherwise push out the
   * next that is needed, and memory be taken for nothing.
   */
  get worthwhile(): boolean {
    return this.#owners * FRAME_CONTENT_BYTES <= this.#limitBytes
  }

  get(owner: number, frame: number): Uint8Array | undefined {
    const key = `${owner}:${frame}`
    const content = this.#entries.get(key)
    if (content === undefined) return undefined
    this.#entries.delete(key)
    this.#entries.set(key, content)
    return content
  }

  put(owner: number, frame: number, content: Uint8Array): void {
    const key = `${owner}:${frame}`
    // Two readers may have missed it at the same time.
    if (this.#entries.has(key)) return
    this.#entries.set(key, content)
    this.#bytes += content.length
    for (const [oldest, old] of this.#entries) {
      if (this.#bytes <= this.#limitBytes || this.#entries.size === 1) break
      this.#entries.delete(oldest)
      this.#bytes -= old.length
    }
  }
}
