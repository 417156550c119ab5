import { randomUUID } from 'node:crypto'
import { z } from 'zod'
import { RefpointError } from '../model/errors.js'
import { decodeJson, encodeJson, parseObject } from './json-object.js'
import { holdsFolder } from './layout.js'
import type { Lease } from './lease.js'
import type { PruneRepository, ReadRepository } from './repository.js'

/** A person's word that a point stays, whatever the rules say. Its name is used once: a release that slept ends only it. */
export interface Hold {
  readonly point: number
  readonly why: string
  /** ISO 8601, UTC. */
  readonly since: string
  readonly host: string
}

const limitBytes = 64 * 1024
const holdSchema = z.object({
  format: z.literal(1),
  point: z.int().positive(),
  why: z.string(),
  since: z.string(),
  host: z.string(),
})

/**
 * All holds of a machine, oldest point first.
 * @throws RefpointError `damaged` for one that can't be read: what it holds must not go for that.
 */
export async function readHolds(repository: ReadRepository, machine: string): Promise<readonly Hold[]> {
  const holds: Hold[] = []
  for (const { object, point } of await listHolds(repository, machine)) {
    const bytes = await repository.read(object, limitBytes)
    if (bytes === undefined) continue
    const { why, since, host } = parseObject(object, holdSchema, decodeJson(object, bytes))
    holds.push({ point, why, since, host })
  }
  return holds.sort((a, b) => a.point - b.point)
}

/**
 * Holds a point; under the machine's lease, for which it is given back if a prune may have gone on without seeing it.
 * @throws RefpointError `locked`
 */
export async function addHold(
  repository: PruneRepository,
  machine: string,
  hold: Hold,
  lease: Lease,
): Promise<void> {
  const object = `${holdsFolder(machine)}/${hold.point}-${randomUUID()}.json`
  await repository.claim(object, encodeJson({ format: 1, ...hold }))
  try {
    await lease.assertHeld()
  } catch (error) {
    await repository.remove([object])
    throw error
  }
}

/** Ends all holds of a point that are there now; returns how many. */
export async function removeHolds(repository: PruneRepository, machine: string, point: number): Promise<number> {
  const held = (await listHolds(repository, machine)).filter((hold) => hold.point === point)
  await repository.remove(held.map(({ object }) => object))
  return held.length
}

async function listHolds(
  repository: ReadRepository,
  machine: string,
): Promise<readonly { readonly object: string; readonly point: number }[]> {
  const folder = holdsFolder(machine)
  return (await repository.children(folder)).map((name) => {
    const point = Number(/^(\d+)-[0-9a-f-]{36}\.json$/.exec(name)?.[1] ?? 0)
    if (point > 0) return { object: `${folder}/${name}`, point }
    throw new RefpointError('damaged', `${name} is no hold's name, in ${folder}`, {
      hint: 'Remove it, or put back what it was: until then nothing is pruned.',
      fields: { machine, object: `${folder}/${name}` },
    })
  })
}
