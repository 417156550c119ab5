/*
 * Leases that fence: of all runs on all hosts that back up one machine into one repository, one may commit.
 *
 * Everything is made of objects in `machines/<machine>/locks/`, so that it holds wherever creation is exclusive:
 *
 *   lease-<epoch>.json   create-only: who took the lease, and the slots it may claim. The highest epoch counts; it is
 *                        never removed before a higher one is there, so that epochs are never used twice.
 *   beat-<epoch>.json    replaced by the holder every quarter of its time to live (TTL).
 *   free-<epoch>.json    create-only: the holder has given the lease back.
 *
 * What a taker finds, and does:
 *
 *   nothing, or `free`               claims lease-<epoch+1>
 *   holder of the same realm (one boot of one host: pids and the monotonic clock are shared)
 *     its process is gone            takes over at once
 *     last beat older than its TTL   takes over at once
 *     else                           is told who holds it (or waits)
 *   holder elsewhere
 *     beat changes while watching    is told who holds it (or waits)
 *     no change over one whole TTL   takes over
 *
 * Taking over is: first *burn* the holder's slots, claiming each as an `aborted` manifest; then claim lease-<epoch+1>
 * for the next free slot. A holder that was only asleep wakes to find its slot taken: its commit, being a create-only
 * claim of just that slot, can't succeed. If it was quicker, the burn finds the slot committed, and the taker goes on
 * from there. Two takers may both burn; the claim of the next epoch lets one of them through.
 *
 * A taker that slept after looking may claim an epoch that came, went and was tidied up in between. So whoever claimed
 * one looks again: if there is a higher epoch (there must be, then), it takes its own back and starts over.
 *
 * Only the monotonic clock is used; a wall clock may go anywhere.
 */
import { randomUUID } from 'node:crypto'
import { RefpointError } from '../model/errors.js'
import type { AbortedManifest } from '../model/manifest.js'
import { encodeJson } from './json-object.js'
import { pointName } from './layout.js'
import { type LeaseClock, systemClock } from './lease-clock.js'
import { HeldLease } from './held-lease.js'
import { listEpochs, lockName, readLease, type LeaseRecord, type LeaseState } from './lease-record.js'
import { findNextSlot } from './manifests.js'
import { currentProcess, type ProcessIdentity, processState } from './process-identity.js'
import type { PruneRepository } from './repository.js'

export const defaultTtlMs = 60_000

export interface LeaseOptions {
  /** What is running, for whoever finds the machine locked. */
  readonly command: string
  readonly signal?: AbortSignal
  readonly ttlMs?: number | undefined
  /** How long to wait for a lease that is held and alive; 0 by default. */
  readonly waitMs?: number
  readonly clock?: LeaseClock
  readonly self?: ProcessIdentity
}

/** The right to commit one point of a machine. Disposing it gives it back. */
export interface Lease extends AsyncDisposable {
  /** The slot that this holder may claim. */
  readonly slot: number
  /** Aborts, with a `locked` error as its reason, when the lease is seen to be lost: going on is in vain. */
  readonly lost: AbortSignal
  /**
   * Looks whether the lease is still ours. Safety does not rest on it (the slot does that): it spares work in vain.
   * @throws RefpointError `locked` when somebody has taken over, `io`
   */
  assertHeld(): Promise<void>
  /** Gives the lease back, so that the next run need not wait. Idempotent; does nothing when it was lost. */
  release(): Promise<void>
}

/**
 * Takes the lease on a machine and keeps it renewed until it is released.
 * @throws RefpointError `locked` when another run holds it, `damaged`, `io`; the signal's reason, unwrapped.
 */
export async function acquireLease(
  repository: PruneRepository,
  machine: string,
  options: LeaseOptions,
): Promise<Lease> {
  const { signal, waitMs = 0, clock = systemClock, self = currentProcess() } = options
  const giveUpAt = clock.now() + waitMs
  for (;;) {
    signal?.throwIfAborted()
    const state = await readLease(repository, machine)
    if (state !== undefined && !state.released) {
      const holder = await watch(repository, machine, state, { signal, clock, self })
      if (holder === 'changed') continue
      if (holder === 'alive') {
        if (clock.now() >= giveUpAt) throw held(machine, state.record)
        await clock.sleep(pollMs(state.record), { signal, background: false })
        continue
      }
      await burn(repository, machine, state.record)
    }
    const record: LeaseRecord = {
      format: 1,
      epoch: (state?.record.epoch ?? 0) + 1,
      slots: [await findNextSlot(repository, machine, state?.record.slots[0])],
      nonce: randomUUID(),
      ttlMs: options.ttlMs ?? defaultTtlMs,
      monotonicMs: clock.now(),
      holder: self,
      command: options.command,
      since: new Date().toISOString(),
    }
    if (await take(repository, machine, record)) return await HeldLease.start(repository, machine, record, clock)
  }
}

/** Whether the holder is there, by what can be known from here; may watch it for one TTL. `changed`: look again. */
async function watch(
  repository: PruneRepository,
  machine: string,
  first: LeaseState,
  { signal, clock, self }: { signal: AbortSignal | undefined; clock: LeaseClock; self: ProcessIdentity },
): Promise<'alive' | 'dead' | 'changed'> {
  const { record } = first
  const process = processState(record.holder, self)
  if (process === 'gone') return 'dead'
  if (process === 'alive') {
    const renewedMs = Math.max(record.monotonicMs, first.heartbeat?.monotonicMs ?? 0)
    return clock.now() - renewedMs <= record.ttlMs ? 'alive' : 'dead'
  }
  const until = clock.now() + record.ttlMs
  for (;;) {
    await clock.sleep(pollMs(record), { signal, background: false })
    // Looked at before the clock is: a taker that slept itself must not take its own sleep for the holder's silence.
    const expired = clock.now() > until
    const now = await readLease(repository, machine)
    if (now === undefined || now.record.nonce !== record.nonce || now.released) return 'changed'
    if (now.heartbeat?.count !== first.heartbeat?.count) return 'alive'
    if (expired) return 'dead'
  }
}

function pollMs(record: LeaseRecord): number {
  return Math.min(1000, Math.max(5, record.ttlMs / 20))
}

/** Makes sure that the holder can commit nothing any more; what it has committed stays. */
async function burn(repository: PruneRepository, machine: string, record: LeaseRecord): Promise<void> {
  for (const slot of record.slots) {
    const manifest: AbortedManifest = {
      format: 1,
      type: 'aborted',
      point: slot,
      nonce: randomUUID(),
      time: new Date().toISOString(),
      reason: `the run '${record.command}' (pid ${record.holder.pid} on ${record.holder.host}) did not answer any more`,
    }
    await repository.claim(pointName(machine, slot), encodeJson(manifest))
  }
}

/** Claims an epoch; false when somebody else was quicker. */
async function take(repository: PruneRepository, machine: string, record: LeaseRecord): Promise<boolean> {
  const name = lockName(machine, 'lease', record.epoch)
  if ((await repository.claim(name, encodeJson(record))) === 'exists') return false
  const highest = (await listEpochs(repository, machine)).at(-1)
  if (highest === record.epoch) return true
  await repository.remove([name])
  return false
}

function held(machine: string, record: LeaseRecord): RefpointError {
  const { holder, command, since } = record
  const seconds = Math.ceil(record.ttlMs / 1000)
  return new RefpointError(
    'locked',
    `machine '${machine}' is held by '${command}' (pid ${holder.pid} on ${holder.host}) since ${since}`,
    {
      hint: `Wait until it is done. Should it be dead, its lease ends by itself after ${seconds} s of silence.`,
      fields: { machine, command, host: holder.host, pid: holder.pid, since },
    },
  )
}
