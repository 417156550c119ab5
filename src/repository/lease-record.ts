import { z } from 'zod'
import { RefpointError } from '../model/errors.js'
import { decodeJson, parseObject } from './json-object.js'
import { locksFolder } from './layout.js'
import type { ProcessIdentity } from './process-identity.js'
import type { ReadRepository } from './repository.js'

/** Who took a machine's lease, and what it may claim. Create-only, one for each epoch. */
export interface LeaseRecord {
  readonly format: 1
  readonly epoch: number
  /** The slots that the holder may claim, and that whoever takes over burns first. */
  readonly slots: readonly number[]
  readonly nonce: string
  readonly ttlMs: number
  /** The holder's monotonic clock when it took the lease; means something only within its realm. */
  readonly monotonicMs: number
  readonly holder: ProcessIdentity
  readonly command: string
  /** ISO 8601, UTC; for messages. */
  readonly since: string
}

/** Replaced again and again by the holder: that it changes is what tells that the holder lives. */
export interface Heartbeat {
  readonly nonce: string
  readonly count: number
  readonly monotonicMs: number
}

/** The highest epoch's lease as one look at the repository shows it. */
export interface LeaseState {
  readonly record: LeaseRecord
  readonly released: boolean
  readonly heartbeat: Heartbeat | undefined
}

const limitBytes = 64 * 1024
type Kind = 'lease' | 'beat' | 'free'

const leaseSchema = z.object({
  format: z.literal(1),
  epoch: z.int().positive(),
  slots: z.array(z.int().positive()),
  nonce: z.string(),
  ttlMs: z.number().positive(),
  monotonicMs: z.number(),
  holder: z.object({ host: z.string(), realm: z.string(), pid: z.int().positive(), start: z.string() }),
  command: z.string(),
  since: z.string(),
})
const heartbeatSchema = z.object({ nonce: z.string(), count: z.int(), monotonicMs: z.number() })

export function lockName(machine: string, kind: Kind, epoch: number): string {
  return `${locksFolder(machine)}/${kind}-${String(epoch).padStart(8, '0')}.json`
}

/** Epochs that have a lease record, ascending. */
export async function listEpochs(repository: ReadRepository, machine: string): Promise<readonly number[]> {
  const names = await repository.children(locksFolder(machine))
  return names.flatMap((name) => {
    const digits = /^lease-(\d{8})\.json$/.exec(name)?.[1]
    return digits === undefined ? [] : [Number(digits)]
  })
}

/** Names of everything that epochs before this one left. */
export async function listOlder(
  repository: ReadRepository,
  machine: string,
  epoch: number,
): Promise<readonly string[]> {
  const folder = locksFolder(machine)
  const names = await repository.children(folder)
  return names
    .filter((name) => {
      const digits = /^(?:lease|beat|free)-(\d{8})\.json$/.exec(name)?.[1]
      return digits !== undefined && Number(digits) < epoch
    })
    .map((name) => `${folder}/${name}`)
}

/** The lease as it is now; undefined when none was ever taken, or it went while being read (then look again). */
export async function readLease(repository: ReadRepository, machine: string): Promise<LeaseState | undefined> {
  const epoch = (await listEpochs(repository, machine)).at(-1)
  if (epoch === undefined) return undefined
  const record = await readJson(repository, lockName(machine, 'lease', epoch), leaseSchema)
  if (record === undefined) return await readLease(repository, machine)
  if (record.epoch !== epoch) throw damaged(machine, epoch, record.epoch)
  const released = (await repository.stat(lockName(machine, 'free', epoch))) !== undefined
  const heartbeat = released ? undefined : await readJson(repository, lockName(machine, 'beat', epoch), heartbeatSchema)
  return { record, released, heartbeat }
}

async function readJson<T>(repository: ReadRepository, name: string, schema: z.ZodType<T>): Promise<T | undefined> {
  const bytes = await repository.read(name, limitBytes)
  if (bytes === undefined) return undefined
  try {
    return parseObject(name, schema, decodeJson(name, bytes))
  } catch (error) {
    if (!(error instanceof RefpointError) || error.hint !== undefined) throw error
    throw new RefpointError(error.code, error.message, { hint: howToUnlock(name), fields: error.fields, cause: error })
  }
}

/** Whether somebody holds the lease can't be told any more: only a person can know that nobody does. */
function howToUnlock(name: string): string {
  return `If no backup of this machine is running on any host, remove the folder ${name.slice(0, name.lastIndexOf('/'))}.`
}

function damaged(machine: string, epoch: number, found: number): RefpointError {
  return new RefpointError('damaged', `object ${lockName(machine, 'lease', epoch)} is of epoch ${found}`, {
    hint: howToUnlock(lockName(machine, 'lease', epoch)),
    fields: { machine, epoch, found },
  })
}
