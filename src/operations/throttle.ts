import { setTimeout as sleep } from 'node:timers/promises'

/**
 * At most so many bytes in each second, over all that share it. What is charged at once may be large: then whoever comes
 * next waits until it is paid for, so that the rate holds over any few seconds.
 */
export class Throttle {
  readonly #bytesPerMs: number
  /** The time at which everything that was charged is paid for. */
  #paidAt = 0

  constructor(bytesPerSecond: number) {
    this.#bytesPerMs = bytesPerSecond / 1000
  }

  /** Waits until all that was charged before is paid for. */
  async turn(signal?: AbortSignal): Promise<void> {
    for (;;) {
      const wait = this.#paidAt - performance.now()
      if (wait <= 0) return
      await sleep(Math.min(wait, 1000), undefined, signal === undefined ? {} : { signal }).catch((error: unknown) => {
        throw signal?.aborted === true ? signal.reason : error
      })
    }
  }

  charge(bytes: number): void {
    this.#paidAt = Math.max(this.#paidAt, performance.now()) + bytes / this.#bytesPerMs
  }
}
