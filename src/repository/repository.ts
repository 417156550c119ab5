import type { ObjectLocation } from '../model/location.js'

/**
 * Bytes to store, in pieces of any size; read once. Memory of a piece is its giver's again as soon as the next one is
 * asked for.
 */
export type ByteStream = AsyncIterable<Uint8Array> | Iterable<Uint8Array>

export interface ObjectInfo {
  readonly name: string
  readonly bytes: number
}

/** How much fits where the repository is. */
export interface RepositoryRoom {
  readonly freeBytes: number
  readonly sizeBytes: number
}

/**
 * Reads objects. A name is a relative path of segments `[A-Za-z0-9][A-Za-z0-9._-]*` joined by `/`, at most 1,024
 * characters: anything else throws `usage` before storage is touched, so that no name can leave the repository.
 *
 * Every call may be retried. A missing object is `undefined`, never an exception; a failing one throws `io`.
 * Held to `test/conformance/repository.ts`.
 */
export interface ReadRepository {
  /** For messages: a path or URL without secrets. */
  readonly description: string
  /** The whole object; throws `damaged` when it is larger than `limitBytes`. For small objects only. */
  read(name: string, limitBytes: number): Promise<Uint8Array | undefined>
  /** Where its bytes can be read by ranges, by any thread; undefined when there is no such object. */
  locate(name: string): Promise<ObjectLocation | undefined>
  stat(name: string): Promise<ObjectInfo | undefined>
  /** Objects whose name starts with the folder `prefix` (no trailing slash, '' for all), in name order, recursively. */
  list(prefix: string): AsyncIterable<ObjectInfo>
  /**
   * Names of what is directly below `prefix`: objects and folders, in order, without the prefix. Also what is there
   * under names that no object can have, so that a place in other use is not taken for empty.
   */
  children(prefix: string): Promise<readonly string[]>
  /** How much room there is; undefined where that can't be told, or there is no end to it. */
  room(): Promise<RepositoryRoom | undefined>
}

export interface WriteRepository extends ReadRepository {
  /**
   * Stores an object durably: when the promise resolves it survives a power cut, and before that no reader sees it.
   * Replaces an object of that name as a whole (only heartbeats of leases and readers, records of runs, and the record of a
   * machine that is adopted, are replaced). Nothing is left when it fails.
   */
  put(name: string, content: ByteStream, options?: { readonly signal?: AbortSignal }): Promise<ObjectInfo>
  /**
   * Stores an object durably if and only if there is none of that name. Of any number of claims at once, from any
   * number of hosts, exactly one is told `created`.
   * @throws RefpointError `commit-unknown` when it can't be told whether the object is there to stay.
   */
  claim(name: string, bytes: Uint8Array): Promise<'created' | 'exists'>
  /** Removes what writers that died left half-written below the folder `prefix`; returns how many. */
  sweep(prefix: string): Promise<number>
}

export interface PruneRepository extends WriteRepository {
  /**
   * Removes objects durably, in the order given; those that are not there are passed over. Where one can't be removed the
   * rest stays: a later one never goes before an earlier one.
   */
  remove(names: readonly string[]): Promise<void>
}
