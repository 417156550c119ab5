import { closeSync, constants, openSync, readSync } from 'node:fs'
import { RefpointError } from '../../model/errors.js'
import type { ObjectLocation } from '../../model/location.js'
import type { Source, SourceReader } from '../../model/source.js'

/** Stores that one thread reads by turns. */
const MAX_SOURCES = 8

/**
 * What one thread keeps open from task to task. Bounded: a chain of 1,000 archives does not hold 1,000 descriptors in
 * every worker.
 */
export class OpenFiles {
  readonly #openSource: (source: Source) => Promise<SourceReader>
  readonly #sources = new Map<string, Promise<SourceReader>>()
  readonly #files = new Map<string, number>()
  #buffer = Buffer.alloc(0)

  constructor(openSource: (source: Source) => Promise<SourceReader>) {
    this.#openSource = openSource
  }

  /**
   * A reader of this thread's own. The key is of one store of one run: the same paths hold other bytes in the next.
   * One task at a time runs here, so a reader that was not used for long can be closed.
   */
  async source(key: string, source: Source): Promise<SourceReader> {
    const reader = this.#sources.get(key) ?? this.#openSource(source)
    this.#sources.delete(key)
    this.#sources.set(key, reader)
    for (const [oldest, idle] of this.#sources) {
      if (this.#sources.size <= MAX_SOURCES) break
      this.#sources.delete(oldest)
      await (await idle).close()
    }
    return await reader
  }

  /** Bytes of an archive; a view that is valid until the next call. */
  readArchive(location: ObjectLocation, offset: number, length: number): Uint8Array {
    if (location.kind === 'shared') return new Uint8Array(location.buffer, offset, length).slice()
    if (this.#buffer.length < length) this.#buffer = Buffer.alloc(Math.max(length, 1_114_112))
    const fd = this.#open(location.path, constants.O_RDONLY)
    let done = 0
    while (done < length) {
      const count = readSync(fd, this.#buffer, done, length - done, offset + done)
      if (count === 0) {
        throw new RefpointError(
          'damaged',
          `archive ${location.path} ends at byte ${offset + done}, before its content does`,
        )
      }
      done += count
    }
    return this.#buffer.subarray(0, length)
  }

  /** Descriptor of an existing file for reading and writing. */
  openTarget(path: string): number {
    return this.#open(path, constants.O_RDWR)
  }

  /** Closes these readers, as far as they are open here: what they hold (a deleted clone's space) is free at once. */
  async closeSources(keys: readonly string[]): Promise<void> {
    for (const key of keys) {
      const reader = this.#sources.get(key)
      this.#sources.delete(key)
      if (reader !== undefined) await (await reader).close()
    }
  }

  async closeAll(): Promise<void> {
    const readers = [...this.#sources.values()]
    this.#sources.clear()
    for (const reader of readers) await (await reader).close()
    for (const fd of this.#files.values()) closeSync(fd)
    this.#files.clear()
  }

  #open(path: string, flags: number): number {
    const key = `${flags}:${path}`
    const known = this.#files.get(key)
    if (known !== undefined) {
      this.#files.delete(key)
      this.#files.set(key, known)
      return known
    }
    const fd = openSync(path, flags)
    this.#files.set(key, fd)
    for (const [oldest, oldFd] of this.#files) {
      if (this.#files.size <= 64) break
      closeSync(oldFd)
      this.#files.delete(oldest)
    }
    return fd
  }
}
