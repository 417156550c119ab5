import type { FileHandle } from '../../files/files.js'
import { chunkBytes, entryBytes, entryOffset, regionsPerChunk } from './map-layout.js'

/**
 * The directory of a layer's map: two numbers per region, in memory, and on disk through group commits.
 *
 * **Coarse marks.** Before a region's first in-place write of a generation, its entry says so durably; a crash then
 * leaves "all of this region may have changed" instead of nothing. `mark` does that, and remembers in `residual` what
 * coarse mark of a crash it replaced: that one still stands for every block, until it is written into the fine page.
 */
export class Directory {
  /** Per region, the highest generation of the fine page as it is on disk. */
  maxes: Uint32Array
  /** Per region, the coarse generation as it is on disk, or 0. */
  coarse: Uint32Array
  readonly residual = new Map<number, number>()
  readonly #handle: FileHandle
  #marked: Uint8Array
  readonly #markedRegions = new Set<number>()
  readonly #marking = new Map<number, Promise<void>>()
  /** Regions whose mark failed: in memory it stands, and what is on disk nobody knows, so it must be written again. */
  readonly #unsure = new Set<number>()
  #queued = new Set<number>()
  #nextRun: Promise<void> | undefined
  #lastRun: Promise<unknown> = Promise.resolve()

  private constructor(handle: FileHandle, maxes: Uint32Array, coarse: Uint32Array) {
    this.#handle = handle
    this.maxes = maxes
    this.coarse = coarse
    this.#marked = new Uint8Array(maxes.length)
  }

  /** Reads the whole directory: eight bytes per region. */
  static async load(handle: FileHandle, regions: number): Promise<Directory> {
    const directory = new Directory(handle, new Uint32Array(regions), new Uint32Array(regions))
    await directory.#read(0)
    return directory
  }

  get regions(): number {
    return this.maxes.length
  }

  /** Follows the disk's size; entries that come into view are read from the file. */
  async resize(regions: number): Promise<void> {
    const before = this.regions
    this.maxes = resized(this.maxes, regions)
    this.coarse = resized(this.coarse, regions)
    const marked = new Uint8Array(regions)
    marked.set(this.#marked.subarray(0, regions))
    this.#marked = marked
    if (regions > before) await this.#read(before)
  }

  /** No block of such a region is present, whatever its fine page says. */
  isEmpty(region: number): boolean {
    return this.maxes[region] === 0 && this.coarse[region] === 0
  }

  isMarked(region: number): boolean {
    return this.#marked[region] === 1
  }

  /** The coarse generation that a crash or a resize left for the region's blocks, or 0; marks of this run are not. */
  standing(region: number): number {
    const own = this.#marked[region] === 1 || this.#marking.has(region)
    return (own ? this.residual.get(region) : this.coarse[region]) ?? 0
  }

  /** Regions marked since the last `clearMarks`. */
  get marked(): ReadonlySet<number> {
    return this.#markedRegions
  }

  /** Resolves when each of these regions is marked with `generation` on disk. Marks that come together share a sync. */
  async mark(regions: Iterable<number>, generation: number): Promise<void> {
    const waits = new Set<Promise<void>>()
    const fresh: number[] = []
    for (const region of regions) {
      if (this.#marked[region] === 1) continue
      const underWay = this.#marking.get(region)
      if (underWay === undefined) fresh.push(region)
      else waits.add(underWay)
    }
    if (fresh.length > 0) waits.add(this.#markFresh(fresh, generation))
    await Promise.all(waits)
  }

  #markFresh(regions: readonly number[], generation: number): Promise<void> {
    const stale: number[] = []
    for (const region of regions) {
      const before = this.coarse[region] ?? 0
      const unsure = this.#unsure.has(region)
      if (before !== 0 && !unsure && !this.residual.has(region)) this.residual.set(region, before)
      if (before === generation && !unsure) continue
      this.coarse[region] = generation
      stale.push(region)
    }
    const marking = this.commit(stale).then(
      () => {
        for (const region of regions) {
          this.#marking.delete(region)
          this.#unsure.delete(region)
          this.#marked[region] = 1
          this.#markedRegions.add(region)
        }
      },
      (error: unknown) => {
        for (const region of regions) this.#marking.delete(region)
        for (const region of stale) this.#unsure.add(region)
        throw error
      },
    )
    for (const region of regions) this.#marking.set(region, marking)
    return marking
  }

  clearMarks(): void {
    for (const region of this.#markedRegions) this.#marked[region] = 0
    this.#markedRegions.clear()
  }

  /** Writes the entries of these regions as they then stand in memory, and syncs; calls that come together share it. */
  commit(regions: Iterable<number>): Promise<void> {
    const before = this.#queued.size
    for (const region of regions) this.#queued.add(region)
    if (this.#queued.size === 0 && before === 0) return Promise.resolve()
    this.#nextRun ??= this.#run()
    return this.#nextRun
  }

  #run(): Promise<void> {
    const run = this.#lastRun.then(async () => {
      const regions = this.#queued
      this.#queued = new Set()
      this.#nextRun = undefined
      await this.#write(regions)
      await this.#handle.sync()
    })
    this.#lastRun = run.catch(() => undefined)
    return run
  }

  async #write(regions: ReadonlySet<number>): Promise<void> {
    const sorted = Uint32Array.from(regions).sort()
    for (let start = 0; start < sorted.length; ) {
      const first = sorted[start] ?? 0
      let end = start + 1
      for (let next = first + 1; sorted[end] === next && next % regionsPerChunk !== 0; next += 1) end += 1
      await this.#handle.write([this.#encode(first, end - start)], entryOffset(first))
      start = end
    }
  }

  #encode(first: number, count: number): Uint8Array {
    const words = new Uint32Array(count * 2)
    for (let index = 0; index < count; index += 1) {
      words[index * 2] = this.maxes[first + index] ?? 0
      words[index * 2 + 1] = this.coarse[first + index] ?? 0
    }
    return new Uint8Array(words.buffer)
  }

  async #read(from: number): Promise<void> {
    for (let first = from; first < this.regions; ) {
      const chunkEnd = (Math.floor(first / regionsPerChunk) + 1) * regionsPerChunk
      const count = Math.min(this.regions, chunkEnd) - first
      const words = new Uint32Array(chunkBytes / 4)
      await this.#handle.read(new Uint8Array(words.buffer, 0, count * entryBytes), entryOffset(first))
      for (let index = 0; index < count; index += 1) {
        this.maxes[first + index] = words[index * 2] ?? 0
        this.coarse[first + index] = words[index * 2 + 1] ?? 0
      }
      first += count
    }
  }
}

function resized(from: Uint32Array, length: number): Uint32Array {
  const to = new Uint32Array(length)
  to.set(from.subarray(0, length))
  return to
}
