/* The composition root of limits: what refpoint may take of the host. */
import { realpathSync, statSync } from 'node:fs'
import type { Limits, MachineConfig } from './config/config.js'
import type { WriteEnvironment } from './operations/environment.js'
import { Throttle } from './operations/throttle.js'
import { throttledPool, throttledRepository } from './operations/throttled.js'
import type { PruneRepository } from './repository/repository.js'
import { type Places, withPlaces } from './programs/host-slots.js'

export { lowerPriority } from './programs/lower-priority.js'

/** The environment, not faster than the limits say. */
export function throttled(environment: WriteEnvironment, limits: Limits): WriteEnvironment {
  const { readBytesPerSecond: read, writeBytesPerSecond: write } = limits
  return {
    ...environment,
    ...(read === undefined ? {} : { pool: throttledPool(environment.pool, new Throttle(read)) }),
    ...(write === undefined ? {} : { repository: throttledRepository(environment.repository, new Throttle(write)) }),
  }
}

/** The repository, written to not faster than that. */
export function limitWrites(repository: PruneRepository, bytesPerSecond: number): PruneRepository {
  return throttledRepository(repository, new Throttle(bytesPerSecond))
}

/** Runs a machine's backup when host, repository and devices have a place for it. */
export async function withinLimits<Result>(
  { limits, machine, repository }: { readonly limits: Limits; readonly machine: MachineConfig; readonly repository: string },
  waiting: { readonly signal: AbortSignal; readonly onWaiting: (key: string) => void },
  body: () => Promise<Result>,
): Promise<Result> {
  const places: Places[] = []
  if (limits.host !== undefined) places.push({ key: 'host', count: limits.host })
  if (limits.repository !== undefined) places.push({ key: `repository ${real(repository)}`, count: limits.repository })
  const { device } = limits
  if (device !== undefined) for (const id of devicesOf(machine)) places.push({ key: `device ${id}`, count: device })
  return await withPlaces(places, waiting, body)
}

/** Device numbers, in order: of a block device its own, of a file that of its file system. */
function devicesOf(machine: MachineConfig): readonly string[] {
  const paths = Object.values('stores' in machine ? machine.stores : {}).map((store: string | { readonly path: string }) =>
    typeof store === 'string' ? store : store.path,
  )
  const found = paths.flatMap((path) => {
    try {
      const stats = statSync(path)
      const id = stats.isBlockDevice() ? stats.rdev : stats.dev
      return [`${id >> 8}:${id & 255}`]
    } catch {
      // What is not there is told by the run.
      return []
    }
  })
  return [...new Set(found)].sort()
}

function real(path: string): string {
  try {
    return realpathSync(path)
  } catch {
    return path
  }
}
