import { hostname } from 'node:os'
import { RefpointError } from '../../model/errors.js'
import { addHold, type Hold, removeHolds } from '../../repository/holds.js'
import { acquireLease } from '../../repository/lease.js'
import type { WriteEnvironment } from '../environment.js'
import { choosePoint, listPoints, type When } from '../points.js'

/** A run that holds the machine is soon done, or told of. */
const waitMs = 30_000

/**
 * Keeps a point from being pruned until it is released. Takes the machine's lease, so that no prune is under way that
 * has looked for holds already.
 * @throws RefpointError `usage` when there is no such point, `locked` when a run does not end within half a minute.
 */
export async function holdPoint(
  { repository, command, ttlMs }: Pick<WriteEnvironment, 'repository' | 'command' | 'ttlMs'>,
  machine: string,
  request: { readonly when: When; readonly why: string },
  signal: AbortSignal,
): Promise<Hold> {
  await listPoints(repository, machine)
  await using lease = await acquireLease(repository, machine, { command, ttlMs, signal, waitMs })
  const [history] = await listPoints(repository, machine)
  if (history === undefined) throw new RangeError(`machine '${machine}' has no history`)
  const { point } = choosePoint(history, request.when)
  const hold: Hold = { point, why: request.why, since: new Date().toISOString(), host: hostname() }
  await addHold(repository, machine, hold, lease)
  return hold
}

/**
 * Ends all holds of a point; returns how many there were.
 * @throws RefpointError `usage` when it was not held.
 */
export async function releasePoint(
  { repository }: Pick<WriteEnvironment, 'repository'>,
  machine: string,
  point: number,
): Promise<number> {
  const ended = await removeHolds(repository, machine, point)
  if (ended > 0) return ended
  throw new RefpointError('usage', `point #${point} of machine '${machine}' is not held`, {
    hint: `'refpoint points ${machine}' tells which points are.`,
    fields: { machine, point },
  })
}
