import type { Codec } from '../compress/codec.js'
import type { PruneRepository, ReadRepository } from '../repository/repository.js'
import type { ByteBudget } from './byte-budget.js'
import type { TaskPool } from './pool.js'
import type { ReadOwnMachine } from './restore/own-machine.js'

/** What reading operations work with; made by the composition root. */
export interface ReadEnvironment {
  readonly repository: ReadRepository
  readonly repositoryId: string
  readonly codec: Codec
  readonly pool: TaskPool
  /** Bytes in flight over all machines and stores. */
  readonly budget: ByteBudget
  readonly readOwnMachine: ReadOwnMachine
}

/** What writing operations work with. */
export interface WriteEnvironment extends ReadEnvironment {
  readonly repository: PruneRepository
  /** Name and version, for manifests. */
  readonly agent: string
  /** The command that runs, for whoever finds the machine locked. */
  readonly command: string
  /** How long a lease or a pin outlives its last renewal, in milliseconds; a minute when undefined. */
  readonly ttlMs?: number
}
