/** Room in front of the bytes for a reply's header, so that header and bytes go out in one write. */
export const headroomBytes = 64

const smallestBytes = 4 * 1024
const largestKeptBytes = 1024 * 1024

/** What is kept for later reads, over all sizes. */
const mostKeptBytes = 8 * 1024 * 1024

/**
 * Buffers for replies, by powers of two: fresh memory costs a page fault per 4 KiB, which at full speed is as much
 * as the copy itself. A few are kept; large ones are left to the garbage collector.
 */
export class ReadBuffers {
  readonly #free = new Map<number, Uint8Array[]>()
  #keptBytes = 0

  /** A buffer with anything in it: `headroomBytes`, then at least `bytes`. Its length is `bufferBytes(bytes)`. */
  take(bytes: number): Uint8Array {
    const length = bufferBytes(bytes)
    const kept = this.#free.get(length)?.pop()
    if (kept === undefined) return Buffer.allocUnsafeSlow(length)
    this.#keptBytes -= length
    return kept
  }

  /** Gives back what `take` gave, once nothing reads or writes it any more. */
  give(buffer: Uint8Array): void {
    const length = buffer.byteLength
    if (length > headroomBytes + largestKeptBytes || this.#keptBytes + length > mostKeptBytes) return
    this.#keptBytes += length
    const kept = this.#free.get(length)
    if (kept === undefined) this.#free.set(length, [buffer])
    else kept.push(buffer)
  }
}

/** The length of the whole buffer that holds `bytes`. */
export function bufferBytes(bytes: number): number {
  if (bytes > largestKeptBytes) return headroomBytes + bytes
  return headroomBytes + Math.max(smallestBytes, 2 ** Math.ceil(Math.log2(bytes)))
}
