import { FRAME_ROOM } from '../tasks/read-chunk.js'

/** Stored frames are read at once up to so many bytes. */
export const STORED_BYTES = 2 * 1024 * 1024

/** Rooms that there are: what is read is never less than half of its room, but for the smallest. */
const rooms = [65_536, 131_072, 262_144, 524_288, FRAME_ROOM, STORED_BYTES] as const

/**
 * Memory for stored frames between their read and their write, used again and again: a new buffer for each read costs
 * the kernel's zeroing of its pages, and the collector's time, each as much as the copying.
 */
export class StoredMemory {
  readonly #free = rooms.map((): Buffer[] => [])

  /** Memory of at least so many bytes, at most 2 MiB, with whatever is in it. */
  take(bytes: number): Buffer {
    const size = rooms.findIndex((room) => room >= bytes)
    const room = rooms[size]
    if (room === undefined) throw new RangeError(`${bytes} bytes are more than is read at once`)
    return this.#free[size]?.pop() ?? Buffer.allocUnsafeSlow(room)
  }

  /** Gives back what `take` gave. */
  give(memory: Buffer): void {
    this.#free[rooms.findIndex((room) => room === memory.length)]?.push(memory)
  }
}
