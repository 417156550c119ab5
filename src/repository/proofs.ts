/*
 * What was proven of a machine's archives, and when: `machines/<machine>/runs/proofs.json`, replaced as a whole. From
 * it `verify --budget` goes on where the last left off, whichever host that was. Two hosts that write it at one time
 * lose what one of them proved: that is proven again, sooner than it had to be.
 */
import { z } from 'zod'
import { RefpointError } from '../model/errors.js'
import type { PointManifest } from '../model/manifest.js'
import { decodeJson, encodeJson, parseObject } from './json-object.js'
import type { ReadRepository, WriteRepository } from './repository.js'
import { runsFolder } from './run-record.js'

export interface Proofs {
  readonly format: 1
  /** Name of an archive, without its folder, to when each of its bytes was proven: seconds since the epoch. */
  readonly proven: Readonly<Record<string, number>>
  /** By the point in which damage was found and not yet found gone. */
  readonly damaged: Readonly<Record<string, Damage>>
}

export interface Damage {
  readonly what: string
  /** Points that can't be restored whole because of it. */
  readonly affects: readonly number[]
}

const limitBytes = 64 * 1024 * 1024
const schema: z.ZodType<Proofs> = z.object({
  format: z.literal(1),
  proven: z.record(z.string(), z.number()),
  damaged: z.record(
    z.string().regex(/^\d{1,8}$/),
    z.object({ what: z.string(), affects: z.array(z.int().positive()) }),
  ),
})

function proofsName(machine: string): string {
  return `${runsFolder(machine)}/proofs.json`
}

/** @throws RefpointError `damaged`, saying what to do. */
export async function readProofs(repository: ReadRepository, machine: string): Promise<Proofs> {
  const object = proofsName(machine)
  const bytes = await repository.read(object, limitBytes)
  if (bytes === undefined) return { format: 1, proven: {}, damaged: {} }
  try {
    return parseObject(object, schema, decodeJson(object, bytes))
  } catch (error) {
    if (!(error instanceof RefpointError)) throw error
    throw new RefpointError('damaged', error.message, {
      hint: 'No point is affected: it only says what was verified when. The next verify begins anew.',
      fields: { object },
      cause: error,
    })
  }
}

/** Points that can't be restored whole by what verify found, and did not find gone since. @throws as `readProofs`. */
export async function pointsFoundDamaged(repository: ReadRepository, machine: string): Promise<ReadonlySet<number>> {
  return affectedPoints(await readProofs(repository, machine))
}

export function affectedPoints({ damaged }: Proofs): ReadonlySet<number> {
  return new Set(Object.values(damaged).flatMap(({ affects }) => affects))
}

/** What one verify has found of some points. */
export interface Proven {
  /** Of these, each byte was proven, and nothing that they need was found damaged. */
  readonly whole: readonly PointManifest[]
  readonly damaged: ReadonlyMap<number, Damage>
  /** All points that there are: what is known of others is forgotten. */
  readonly points: readonly PointManifest[]
}

/** Adds what was found. A record that can't be read is written anew. */
export async function recordProofs(
  repository: WriteRepository,
  machine: string,
  { whole, damaged, points }: Proven,
  now = new Date(),
): Promise<void> {
  const before = await readProofs(repository, machine).catch((error: unknown): Proofs => {
    if (error instanceof RefpointError && error.code === 'damaged') return { format: 1, proven: {}, damaged: {} }
    throw error
  })
  const seconds = Math.round(now.getTime() / 1000)
  const named = new Set(points.map(({ archive }) => leafOf(archive.name)))
  const there = new Set(points.map(({ point }) => String(point)))
  const bad = new Map(Object.entries(before.damaged).filter(([point]) => there.has(point)))
  for (const { point } of whole) bad.delete(String(point))
  for (const [point, { what, affects }] of damaged) bad.set(String(point), { what: what.slice(0, 500), affects })
  await repository.put(proofsName(machine), [
    encodeJson({
      format: 1,
      proven: {
        ...Object.fromEntries(Object.entries(before.proven).filter(([archive]) => named.has(archive))),
        ...Object.fromEntries(whole.map(({ archive }) => [leafOf(archive.name), seconds])),
      },
      damaged: Object.fromEntries(bad),
    } satisfies Proofs),
  ])
}

/** When an archive was last proven, in milliseconds since the epoch; 0: never. */
export function provenAtMs({ proven }: Proofs, archive: string): number {
  const leaf = leafOf(archive)
  return Object.hasOwn(proven, leaf) ? (proven[leaf] ?? 0) * 1000 : 0
}

function leafOf(archive: string): string {
  return archive.slice(archive.lastIndexOf('/') + 1)
}
