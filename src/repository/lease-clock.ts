import { setTimeout } from 'node:timers/promises'

/** The clock that leases are timed by, so that tests can turn it. */
export interface LeaseClock {
  /** Milliseconds of the system's monotonic clock: the same for all processes of one boot. */
  now(): number
  /** Rejects with the signal's reason. With `background`, the wait alone does not keep the process running. */
  sleep(ms: number, options: { readonly signal: AbortSignal | undefined; readonly background: boolean }): Promise<void>
}

export const systemClock: LeaseClock = {
  now: () => Number(process.hrtime.bigint() / 1_000_000n),
  async sleep(ms, { signal, background }) {
    try {
      await setTimeout(ms, undefined, { ref: !background, ...(signal === undefined ? {} : { signal }) })
    } catch (error) {
      signal?.throwIfAborted()
      throw error
    }
  },
}
