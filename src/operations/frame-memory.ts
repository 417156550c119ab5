import { FRAME_ROOM } from './tasks/read-chunk.js'

/**
 * Memory for frames on their way from a worker to the repository, used again and again. Shared, so that a worker
 * writes into it and nothing is copied or handed over; and no garbage, which at gigabytes a minute keeps the collector
 * busy for a third of the main thread's time. How many there are is limited by who takes them: what is in flight, and
 * what an archive's member gathers.
 */
export class FrameMemory {
  readonly #free: SharedArrayBuffer[] = []

  take(): SharedArrayBuffer {
    return this.#free.pop() ?? new SharedArrayBuffer(FRAME_ROOM)
  }

  give(memory: SharedArrayBuffer): void {
    this.#free.push(memory)
  }
}
