import { z } from 'zod'
import { RefpointError } from '../model/errors.js'
import { decodeJson, parseObject } from './json-object.js'
import { readersFolder } from './layout.js'
import { isSegment } from './names.js'
import type { ProcessIdentity } from './process-identity.js'
import type { ReadRepository } from './repository.js'

/** Somebody reads a machine's points: what they may need is not removed. Create-only, removed by the reader. */
export interface PinRecord {
  readonly format: 1
  readonly nonce: string
  /** The highest slot that was claimed before the pin was there: the reader knows of every fold up to it. */
  readonly slot: number
  readonly ttlMs: number
  readonly holder: ProcessIdentity
  readonly command: string
  /** ISO 8601, UTC; for messages. */
  readonly since: string
}

const limitBytes = 64 * 1024
const pinSchema = z.object({
  format: z.literal(1),
  nonce: z.string(),
  slot: z.int().nonnegative(),
  ttlMs: z.number().positive(),
  holder: z.object({ host: z.string(), realm: z.string(), pid: z.int().positive(), start: z.string() }),
  command: z.string(),
  since: z.string(),
})
const beatSchema = z.object({ count: z.int() })

export function pinName(machine: string, nonce: string): string {
  return `${readersFolder(machine)}/${nonce}.json`
}

/** Replaced again and again by the reader, and apart from the pin: renewing must not bring back what was removed. */
export function pinBeatName(machine: string, nonce: string): string {
  return `${readersFolder(machine)}/${nonce}.beat`
}

/** Everything in a machine's readers folder: pins by nonce, and beats whose pin is gone. */
export async function listPins(
  repository: ReadRepository,
  machine: string,
): Promise<{ readonly pins: readonly string[]; readonly strayBeats: readonly string[] }> {
  const names = (await repository.children(readersFolder(machine))).filter(isSegment)
  const pins = names.filter((name) => name.endsWith('.json')).map((name) => name.slice(0, -'.json'.length))
  const strayBeats = names
    .filter((name) => name.endsWith('.beat') && !pins.includes(name.slice(0, -'.beat'.length)))
    .map((name) => `${readersFolder(machine)}/${name}`)
  return { pins, strayBeats }
}

/** A pin; undefined when it is gone, `unreadable` when it can't be told whose it is. */
export async function readPin(
  repository: ReadRepository,
  machine: string,
  nonce: string,
): Promise<PinRecord | 'unreadable' | undefined> {
  return await readRecord(repository, pinName(machine, nonce), pinSchema)
}

/** How often a pin was renewed; undefined when never, or not in a way that can be read. */
export async function readPinBeat(
  repository: ReadRepository,
  machine: string,
  nonce: string,
): Promise<number | undefined> {
  const beat = await readRecord(repository, pinBeatName(machine, nonce), beatSchema)
  return beat === undefined || beat === 'unreadable' ? undefined : beat.count
}

async function readRecord<T>(
  repository: ReadRepository,
  name: string,
  schema: z.ZodType<T>,
): Promise<T | 'unreadable' | undefined> {
  try {
    const bytes = await repository.read(name, limitBytes)
    return bytes === undefined ? undefined : parseObject(name, schema, decodeJson(name, bytes))
  } catch (error) {
    if (error instanceof RefpointError && error.code === 'damaged') return 'unreadable'
    throw error
  }
}
