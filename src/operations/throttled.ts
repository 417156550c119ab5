/* The same pool and the same repository, only not faster than was said. */
import type { ByteStream, PruneRepository } from '../repository/repository.js'
import type { TaskPool } from './pool.js'
import type { TaskResults } from './tasks/tasks.js'
import type { Throttle } from './throttle.js'

/** Reads of sources are limited by what they read, which only they know afterwards. */
export function throttledPool(pool: TaskPool, throttle: Throttle): TaskPool {
  return {
    workers: pool.workers,
    async run(name, jobs, bytes) {
      if (name !== 'readChunk') return await pool.run(name, jobs, bytes)
      await throttle.turn()
      const results = await pool.run(name, jobs, bytes)
      for (const { readBytes } of results as TaskResults['readChunk'][]) throttle.charge(readBytes)
      return results
    },
    everywhere: (name, job) => pool.everywhere(name, job),
    [Symbol.asyncDispose]: () => pool[Symbol.asyncDispose](),
  }
}

/** Writes of archives are limited piece by piece; small objects are not worth it. */
export function throttledRepository(repository: PruneRepository, throttle: Throttle): PruneRepository {
  async function* slowly(content: ByteStream, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array> {
    for await (const piece of content) {
      await throttle.turn(signal)
      throttle.charge(piece.length)
      yield piece
    }
  }
  return {
    description: repository.description,
    read: (name, limitBytes) => repository.read(name, limitBytes),
    locate: (name) => repository.locate(name),
    stat: (name) => repository.stat(name),
    list: (prefix) => repository.list(prefix),
    children: (prefix) => repository.children(prefix),
    room: () => repository.room(),
    put: (name, content, options) => repository.put(name, slowly(content, options?.signal), options),
    claim: (name, bytes) => repository.claim(name, bytes),
    sweep: (prefix) => repository.sweep(prefix),
    remove: (names) => repository.remove(names),
  }
}
