import { closeSync, openSync, readSync } from 'node:fs'
import {
  blocksPerRegion,
  checkMapHeader,
  chunkBytes,
  entryOffset,
  headerBytes,
  pageBytes,
  pageOffset,
  regionsPerChunk,
} from './map-layout.js'

const cachedPages = 256

/**
 * Reads the map file of a layer that does not change any more, with plain synchronous reads, as little of it as the
 * questions need: the directory chunk by chunk, fine pages one by one, the latest of each kept.
 */
export class FrozenMap {
  /** How much was read from the file so far. */
  bytesRead = 0
  readonly #fd: number
  readonly #regions: number
  #chunk = -1
  readonly #entries = new Uint32Array(chunkBytes / 4)
  readonly #pages = new Map<number, Uint32Array>()

  constructor(path: string, blockBytes: number, regions: number) {
    this.#fd = openSync(path, 'r')
    this.#regions = regions
    const header = new Uint8Array(headerBytes)
    const count = this.#read(header, 0)
    checkMapHeader(header.subarray(0, count), path, blockBytes)
  }

  /** The highest generation of the region's fine page; 0 where it is empty. */
  max(region: number): number {
    this.#loadChunk(region)
    return this.#entries[(region % regionsPerChunk) * 2] ?? 0
  }

  /** The generation that stands for all present blocks of the region, or 0. */
  coarse(region: number): number {
    this.#loadChunk(region)
    return this.#entries[(region % regionsPerChunk) * 2 + 1] ?? 0
  }

  /** Generations of the region's blocks without the coarse mark, 0 where not written; undefined for an empty one. */
  page(region: number): Uint32Array | undefined {
    if (this.max(region) === 0) return undefined
    let page = this.#pages.get(region)
    if (page !== undefined) return page
    page = new Uint32Array(blocksPerRegion)
    this.#read(new Uint8Array(page.buffer, 0, pageBytes), pageOffset(region))
    if (this.#pages.size >= cachedPages) this.#pages.delete(this.#pages.keys().next().value ?? -1)
    this.#pages.set(region, page)
    return page
  }

  close(): void {
    closeSync(this.#fd)
  }

  #loadChunk(region: number): void {
    const chunk = Math.floor(region / regionsPerChunk)
    if (chunk === this.#chunk) return
    const first = chunk * regionsPerChunk
    const bytes = Math.min(regionsPerChunk, this.#regions - first) * 8
    this.#entries.fill(0)
    this.#read(new Uint8Array(this.#entries.buffer, 0, bytes), entryOffset(first))
    this.#chunk = chunk
  }

  #read(into: Uint8Array, offset: number): number {
    let done = 0
    while (done < into.length) {
      const count = readSync(this.#fd, into, done, into.length - done, offset + done)
      if (count === 0) break
      done += count
    }
    this.bytesRead += done
    return done
  }
}
