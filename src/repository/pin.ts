/*
 * Readers that pin: a restore, verify or copy that takes hours keeps what it reads, whatever is pruned meanwhile.
 *
 *   readers/<nonce>.json   create-only, before the reader looks at any manifest; removed by the reader at its end
 *   readers/<nonce>.beat   replaced by the reader every quarter of the pin's time to live (TTL)
 *
 * A prune commits its fold first, and looks for pins then. A pin that it does not see is younger than the fold, so that
 * its reader sees the fold, and needs nothing of what the fold gave up. For the others, what the fold gave up stays until
 * a later prune or backup finds them gone. When a reader is gone is told as with leases: by its process on the same boot
 * of the same host, else by its silence over one whole TTL of the looker's own clock.
 *
 * A reader that slept for longer than that on another host may wake to find its pin removed, and archives with it. It
 * looks for its pin before it believes that anything is damaged.
 */
import { randomUUID } from 'node:crypto'
import { RefpointError } from '../model/errors.js'
import { encodeJson } from './json-object.js'
import { type LeaseClock, systemClock } from './lease-clock.js'
import { hasMachine } from './machine.js'
import { findNextSlot } from './manifests.js'
import { listPins, pinBeatName, pinName, type PinRecord, readPin, readPinBeat } from './pin-record.js'
import { currentProcess, type ProcessIdentity, processState } from './process-identity.js'
import type { PruneRepository, ReadRepository } from './repository.js'

export const defaultPinTtlMs = 60_000
const renewalsPerTtl = 4

export interface PinOptions {
  /** What is reading, for whoever finds that something can't be removed yet. */
  readonly command: string
  readonly ttlMs?: number | undefined
  readonly clock?: LeaseClock
  readonly self?: ProcessIdentity
}

/** What a reader holds while it reads a machine. Disposing gives it up. */
export interface Pin extends AsyncDisposable {
  /** False where the repository could not be written (read-only, full): reading goes on, and nothing is promised. */
  readonly pinned: boolean
  /**
   * To be called before anything is told as damaged.
   * @throws RefpointError `locked` when the pin was taken for a dead reader's.
   */
  assertHeld(): Promise<void>
}

/**
 * Pins a machine; before its manifests are read. Nothing is written for a machine that is not there.
 * @throws RefpointError `io` when the repository can't even be read.
 */
export async function pinMachine(repository: PruneRepository, machine: string, options: PinOptions): Promise<Pin> {
  const { clock = systemClock, self = currentProcess(), ttlMs = defaultPinTtlMs } = options
  if (!(await hasMachine(repository, machine))) return unpinned
  const record: PinRecord = {
    format: 1,
    nonce: randomUUID(),
    slot: (await findNextSlot(repository, machine)) - 1,
    ttlMs,
    holder: self,
    command: options.command,
    since: new Date().toISOString(),
  }
  try {
    await repository.claim(pinName(machine, record.nonce), encodeJson(record))
  } catch (error) {
    if (!(error instanceof RefpointError) || error.code === 'usage') throw error
    return unpinned
  }
  return new HeldPin(repository, machine, record, clock)
}

/** Runs what reads a machine while it is pinned. An error that a lost pin explains is told as that. */
export async function whilePinned<Result>(
  repository: PruneRepository,
  machine: string,
  options: PinOptions,
  read: (pin: Pin) => Promise<Result>,
): Promise<Result> {
  await using pin = await pinMachine(repository, machine, options)
  try {
    return await read(pin)
  } catch (error) {
    if (error instanceof RefpointError && error.code === 'damaged') await pin.assertHeld()
    throw error
  }
}

const unpinned: Pin = {
  pinned: false,
  assertHeld: async () => undefined,
  [Symbol.asyncDispose]: async () => undefined,
}

class HeldPin implements Pin {
  readonly pinned = true
  readonly #repository: PruneRepository
  readonly #machine: string
  readonly #record: PinRecord
  readonly #stop = new AbortController()
  readonly #renewing: Promise<void>

  constructor(repository: PruneRepository, machine: string, record: PinRecord, clock: LeaseClock) {
    this.#repository = repository
    this.#machine = machine
    this.#record = record
    this.#renewing = this.#keepRenewing(clock)
  }

  async assertHeld(): Promise<void> {
    if ((await this.#repository.stat(pinName(this.#machine, this.#record.nonce))) !== undefined) return
    const message = `what this run was reading of machine '${this.#machine}' was removed: it was silent for too long`
    throw new RefpointError('locked', message, {
      hint: 'A prune took it for dead and went on. Nothing is damaged by that: run the command again.',
      fields: { machine: this.#machine },
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort()
    await this.#renewing
    // Whoever can't remove it now leaves it to the next prune, which sees that this process is gone.
    const { nonce } = this.#record
    await this.#repository
      .remove([pinName(this.#machine, nonce), pinBeatName(this.#machine, nonce)])
      .catch(() => undefined)
  }

  async #keepRenewing(clock: LeaseClock): Promise<void> {
    const { signal } = this.#stop
    for (let count = 1; !signal.aborted; count += 1) {
      try {
        await clock.sleep(this.#record.ttlMs / renewalsPerTtl, { signal, background: true })
      } catch {
        return
      }
      const beat = pinBeatName(this.#machine, this.#record.nonce)
      await this.#repository.put(beat, [encodeJson({ count })]).catch(() => undefined)
    }
  }
}

export interface LivePinsOptions {
  /** Pins whose reader knows of this slot are no matter. */
  readonly before: number
  /** Whether to watch readers on other hosts for one TTL, to tell a dead one; else they count as alive. */
  readonly watch: boolean
  readonly signal?: AbortSignal
  readonly clock?: LeaseClock
  readonly self?: ProcessIdentity
}

/** The readers that may need what the fold in slot `before` gave up. Removes the pins of those that are gone. */
export async function livePins(
  repository: PruneRepository,
  machine: string,
  { before, watch, signal, clock = systemClock, self = currentProcess() }: LivePinsOptions,
): Promise<readonly PinRecord[]> {
  const { pins, strayBeats } = await listPins(repository, machine)
  if (strayBeats.length > 0) await repository.remove(strayBeats).catch(() => undefined)
  const judge = async (nonce: string): Promise<readonly PinRecord[]> => {
    const found = await readPin(repository, machine, nonce)
    if (found === undefined) return []
    if (found !== 'unreadable' && found.slot >= before) return []
    const record = found === 'unreadable' ? nobodyKnows(nonce) : found
    const state = found === 'unreadable' ? 'unknown' : processState(record.holder, self)
    const alive =
      state === 'alive' || (state === 'unknown' && (!watch || (await moves(repository, machine, record, clock, signal))))
    if (alive) return [record]
    await repository.remove([pinName(machine, nonce), pinBeatName(machine, nonce)]).catch(() => undefined)
    return []
  }
  return (await Promise.all(pins.map(judge))).flat()
}

/** Whether a pin is renewed, or goes, while it is watched for one TTL. */
async function moves(
  repository: ReadRepository,
  machine: string,
  { nonce, ttlMs }: PinRecord,
  clock: LeaseClock,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const first = await readPinBeat(repository, machine, nonce)
  const until = clock.now() + ttlMs
  for (;;) {
    await clock.sleep(Math.min(1000, Math.max(5, ttlMs / 20)), { signal, background: false })
    // Looked at before the clock is: a looker that slept itself must not take its own sleep for the reader's silence.
    const expired = clock.now() > until
    if ((await readPinBeat(repository, machine, nonce)) !== first) return true
    if (expired) return false
  }
}

function nobodyKnows(nonce: string): PinRecord {
  const holder = { host: 'an unknown host', realm: '', pid: 1, start: '' }
  return { format: 1, nonce, slot: 0, ttlMs: defaultPinTtlMs, holder, command: 'unknown', since: 'an unknown time' }
}
