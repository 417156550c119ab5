import { RefpointError } from '../model/errors.js'
import { encodeJson } from './json-object.js'
import type { Lease } from './lease.js'
import type { LeaseClock } from './lease-clock.js'
import { type Heartbeat, type LeaseRecord, listEpochs, listOlder, lockName } from './lease-record.js'
import type { PruneRepository } from './repository.js'

const renewalsPerTtl = 4

/** A lease that was taken: renews itself in the background until it is released or seen to be lost. */
export class HeldLease implements Lease {
  readonly slot: number
  readonly #repository: PruneRepository
  readonly #machine: string
  readonly #record: LeaseRecord
  readonly #clock: LeaseClock
  readonly #lost = new AbortController()
  readonly #stop = new AbortController()
  #renewing: Promise<void> = Promise.resolve()
  #count = 0

  private constructor(repository: PruneRepository, machine: string, record: LeaseRecord, clock: LeaseClock) {
    this.#repository = repository
    this.#machine = machine
    this.#record = record
    this.#clock = clock
    this.slot = record.slots[0] ?? 0
  }

  static async start(
    repository: PruneRepository,
    machine: string,
    record: LeaseRecord,
    clock: LeaseClock,
  ): Promise<HeldLease> {
    const lease = new HeldLease(repository, machine, record, clock)
    lease.#renewing = lease.#keepRenewing()
    await lease.#tidyUp()
    return lease
  }

  get lost(): AbortSignal {
    return this.#lost.signal
  }

  async assertHeld(): Promise<void> {
    if (!this.#lost.signal.aborted) {
      const highest = (await listEpochs(this.#repository, this.#machine)).at(-1)
      if (highest !== this.#record.epoch) this.#lose()
    }
    this.#lost.signal.throwIfAborted()
  }

  async release(): Promise<void> {
    if (this.#stop.signal.aborted) return
    this.#stop.abort()
    await this.#renewing
    if (this.#lost.signal.aborted) return
    const { epoch, nonce } = this.#record
    await this.#repository.claim(lockName(this.#machine, 'free', epoch), encodeJson({ nonce }))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.release()
  }

  /**
   * A renewal that fails is tried again at the next: the lease lasts for several. One that comes late (the process
   * slept) is harmless too, for then either nobody took over, or the slot is burnt.
   */
  async #keepRenewing(): Promise<void> {
    const { signal } = this.#stop
    while (!signal.aborted && !this.#lost.signal.aborted) {
      try {
        await this.#clock.sleep(this.#record.ttlMs / renewalsPerTtl, { signal, background: true })
      } catch {
        return
      }
      await this.#renew().catch(() => undefined)
    }
  }

  async #renew(): Promise<void> {
    await this.assertHeld()
    this.#count += 1
    const { epoch, nonce } = this.#record
    const beat: Heartbeat = { nonce, count: this.#count, monotonicMs: this.#clock.now() }
    await this.#repository.put(lockName(this.#machine, 'beat', epoch), [encodeJson(beat)])
  }

  /** Storage that refuses to delete keeps the old records, which nobody reads. */
  async #tidyUp(): Promise<void> {
    const older = await listOlder(this.#repository, this.#machine, this.#record.epoch).catch(() => [])
    for (const name of older) await this.#repository.remove([name]).catch(() => undefined)
  }

  #lose(): void {
    const message = `the lease on machine '${this.#machine}' was lost: another run has taken over`
    const error = new RefpointError('locked', message, {
      hint: 'Nothing was committed and nothing is lost: run the backup again.',
      fields: { machine: this.#machine, point: this.slot },
    })
    this.#lost.abort(error)
  }
}
