import { setImmediate } from 'node:timers/promises'
import type { LeaseClock } from '../../src/repository/lease-clock.js'

interface Sleeper {
  readonly at: number
  readonly wake: () => void
}

/** A clock that stands still until it is turned. */
export class FakeClock implements LeaseClock {
  #now = 1000
  readonly #sleepers = new Set<Sleeper>()

  now(): number {
    return this.#now
  }

  sleep(ms: number, { signal }: { readonly signal: AbortSignal | undefined }): Promise<void> {
    return new Promise((resolve, reject) => {
      const sleeper: Sleeper = {
        at: this.#now + ms,
        wake: () => {
          signal?.removeEventListener('abort', abort)
          this.#sleepers.delete(sleeper)
          resolve()
        },
      }
      const abort = (): void => {
        this.#sleepers.delete(sleeper)
        reject(signal?.reason)
      }
      this.#sleepers.add(sleeper)
      if (signal?.aborted === true) abort()
      else signal?.addEventListener('abort', abort, { once: true })
    })
  }

  /** Lets so much time pass, waking who sleeps at each one's time, and letting all work that follows be done. */
  async run(ms: number): Promise<void> {
    const until = this.#now + ms
    await settled()
    for (;;) {
      const next = [...this.#sleepers].sort((a, b) => a.at - b.at)[0]
      if (next === undefined || next.at > until) break
      this.#now = Math.max(this.#now, next.at)
      next.wake()
      await settled()
    }
    this.#now = until
    await settled()
  }
}

/** Memory repositories need no I/O: what is not done after a few turns of the event loop waits for the clock. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 4; turn += 1) await setImmediate()
}
