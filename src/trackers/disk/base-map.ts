import type { FileHandle } from '../../files/files.js'
import type { Directory } from './directory.js'
import { type FinePage, highest, readFinePage, writeFinePages } from './fine-pages.js'
import type { LayerMap, MapSnapshot } from './layer-map.js'
import { blocksPerRegion, regionOf } from './map-layout.js'

/** Regions marked at most at one go for a writer that goes on from one region to the next. */
const maxAhead = 64
/** Changed pages kept in memory: 16 MiB of them, and as much again while they are written out. */
const maxPages = 4096

/**
 * The map of the base layer. Writes only note generations in memory (`#changes`: 0 where nothing was written); what the
 * file says is merged in when pages are written out. A region marked durably may have its page written at any time.
 */
export class BaseMap implements LayerMap {
  readonly directory: Directory
  readonly #handle: FileHandle
  #changes = new Map<number, FinePage>()
  /** Regions whose page was written since the marks were last cleared. */
  readonly #writtenOut = new Set<number>()
  #ahead = 1

  constructor(handle: FileHandle, directory: Directory) {
    this.#handle = handle
    this.directory = directory
  }

  get pressed(): boolean {
    return this.#changes.size > maxPages
  }

  prepare(first: number, last: number, generation: number): Promise<void> | undefined {
    const end = regionOf(last)
    for (let region = regionOf(first); region <= end; region += 1) {
      if (!this.directory.isMarked(region)) return this.#mark(region, end, generation)
    }
    return undefined
  }

  /** A writer that goes on where marks end gets ever more of them at once, so that syncs do not slow it down. */
  #mark(from: number, to: number, generation: number): Promise<void> {
    const goesOn = from > 0 && this.directory.isMarked(from - 1)
    this.#ahead = goesOn ? Math.min(this.#ahead * 2, maxAhead) : 1
    const regions: number[] = []
    const end = Math.min(to + this.#ahead, this.directory.regions)
    for (let region = from; region < Math.max(end, to + 1); region += 1) regions.push(region)
    return this.directory.mark(regions, generation)
  }

  record(first: number, last: number, generation: number): undefined {
    for (let block = first; block <= last; ) {
      const region = regionOf(block)
      const start = region * blocksPerRegion
      const end = Math.min(last + 1, start + blocksPerRegion)
      this.#changesOf(region).fill(generation, block - start, end - start)
      block = end
    }
  }

  recordEach(first: number, generations: Uint32Array): undefined {
    for (let index = 0; index < generations.length; index += 1) {
      const block = first + index
      const region = regionOf(block)
      raise(this.#changesOf(region), block - region * blocksPerRegion, generations[index] ?? 0)
    }
  }

  #changesOf(region: number): FinePage {
    let changes = this.#changes.get(region)
    if (changes === undefined) {
      changes = new Uint32Array(blocksPerRegion)
      this.#changes.set(region, changes)
    }
    return changes
  }

  /** A flush needs nothing from this map; too many pages in memory are written out with it. */
  snapshot(): MapSnapshot | undefined {
    if (!this.pressed) return undefined
    const changes = this.#changes
    this.#changes = new Map()
    return { before: () => this.#writeOut(changes), after: () => Promise.resolve() }
  }

  async settle(): Promise<void> {
    const changes = this.#changes
    this.#changes = new Map()
    await this.#writeOut(changes)
    if (this.#writtenOut.size > 0) await this.#handle.sync()
    const regions = new Set([...this.#writtenOut, ...this.directory.marked])
    for (const region of regions) {
      // What was marked ahead and not written gets back what it had.
      this.directory.coarse[region] = this.directory.residual.get(region) ?? 0
      this.directory.residual.delete(region)
    }
    await this.directory.commit(regions)
    this.#writtenOut.clear()
    this.directory.clearMarks()
    this.#ahead = 1
  }

  async #writeOut(changes: ReadonlyMap<number, FinePage>): Promise<void> {
    const pages = new Map<number, FinePage>()
    for (const region of Uint32Array.from(changes.keys()).sort()) {
      const page = await this.#merged(region, changes.get(region))
      pages.set(region, page)
      this.directory.maxes[region] = Math.max(this.directory.maxes[region] ?? 0, highest(page))
      this.directory.residual.delete(region)
      this.#writtenOut.add(region)
      if (pages.size >= 256) {
        await writeFinePages(this.#handle, pages)
        pages.clear()
      }
    }
    await writeFinePages(this.#handle, pages)
  }

  async effective(region: number): Promise<FinePage> {
    const page = await this.#merged(region, this.#changes.get(region))
    raiseAll(page, this.directory.standing(region))
    return page
  }

  /** What the file says, a crash's mark, and changes, together. */
  async #merged(region: number, changes: FinePage | undefined): Promise<FinePage> {
    const { directory } = this
    const page =
      directory.maxes[region] === 0 ? new Uint32Array(blocksPerRegion) : await readFinePage(this.#handle, region)
    const residual = directory.residual.get(region)
    if (residual !== undefined) raiseAll(page, residual)
    if (changes === undefined) return page
    for (let index = 0; index < blocksPerRegion; index += 1) raise(page, index, changes[index] ?? 0)
    return page
  }
}

function raise(page: FinePage, index: number, generation: number): void {
  if (generation > (page[index] ?? 0)) page[index] = generation
}

function raiseAll(page: FinePage, generation: number): void {
  for (let index = 0; index < page.length; index += 1) raise(page, index, generation)
}
