import type { FileHandle } from '../../files/files.js'
import type { Directory } from './directory.js'
import { type FinePage, highest, readFinePage, writeFinePages } from './fine-pages.js'
import type { LayerMap, MapSnapshot } from './layer-map.js'
import { blocksPerRegion, regionOf } from './map-layout.js'

/** Pages kept in memory: 16 MiB of them; and how many may be changed and not written before a flush is due. */
const maxPages = 4096
const maxDirty = 2048

/**
 * The map of an overlay: a block is present when its fine page says so. Presence must never be durable before the
 * data is: else a write that was lost in a power cut would hide older data that was flushed.
 */
export class OverlayMap implements LayerMap {
  readonly directory: Directory
  readonly #handle: FileHandle
  readonly #pages = new Map<number, FinePage>()
  readonly #loading = new Map<number, Promise<void>>()
  readonly #dirty = new Set<number>()
  #writing: ReadonlyMap<number, FinePage> = new Map()

  constructor(handle: FileHandle, directory: Directory) {
    this.#handle = handle
    this.directory = directory
  }

  get pressed(): boolean {
    return this.#dirty.size > maxDirty
  }

  /** Whether a region may hold present blocks. */
  mayHold(region: number): boolean {
    return this.#pages.has(region) || !this.directory.isEmpty(region)
  }

  /** The region's page, to be read at once (it may be dropped from memory later); undefined when it must be loaded. */
  loaded(region: number): FinePage | undefined {
    return this.#pages.get(region)
  }

  async has(block: number): Promise<boolean> {
    const region = regionOf(block)
    if (!this.mayHold(region)) return false
    return (await this.#page(region))[block - region * blocksPerRegion] !== 0
  }

  async load(region: number): Promise<void> {
    if (this.#pages.has(region)) return
    let loading = this.#loading.get(region)
    if (loading === undefined) {
      loading = this.#read(region).finally(() => this.#loading.delete(region))
      this.#loading.set(region, loading)
    }
    await loading
  }

  async #read(region: number): Promise<void> {
    const fresh = this.directory.isEmpty(region)
    const page = fresh ? new Uint32Array(blocksPerRegion) : await readFinePage(this.#handle, region)
    if (this.#pages.size >= maxPages) this.#dropClean()
    this.#pages.set(region, page)
  }

  #dropClean(): void {
    let toDrop = maxPages / 4
    for (const region of this.#pages.keys()) {
      if (this.#dirty.has(region) || this.#writing.has(region)) continue
      this.#pages.delete(region)
      toDrop -= 1
      if (toDrop === 0) return
    }
  }

  prepare(first: number, last: number, generation: number): Promise<void> | undefined {
    for (let region = regionOf(first); region <= regionOf(last); region += 1) {
      const page = this.#pages.get(region)
      if (page === undefined || hasOlder(page, region, first, last, generation)) {
        return this.#prepareSlowly(first, last, generation)
      }
    }
    return undefined
  }

  /** Present blocks of an older generation get the new one before they are overwritten where they are. */
  async #prepareSlowly(first: number, last: number, generation: number): Promise<void> {
    const regions: number[] = []
    for (let region = regionOf(first); region <= regionOf(last); region += 1) {
      if (hasOlder(await this.#page(region), region, first, last, generation)) regions.push(region)
    }
    await this.directory.mark(regions, generation)
    for (const region of regions) {
      const page = await this.#page(region)
      const residual = this.directory.residual.get(region)
      if (residual !== undefined) raisePresent(page, 0, page.length, residual)
      this.directory.residual.delete(region)
      const start = region * blocksPerRegion
      raisePresent(page, Math.max(first - start, 0), Math.min(last + 1 - start, page.length), generation)
      this.#dirty.add(region)
    }
  }

  /** The page in memory, to be used before the next await. */
  async #page(region: number): Promise<FinePage> {
    for (;;) {
      const page = this.#pages.get(region)
      if (page !== undefined) return page
      await this.load(region)
    }
  }

  record(first: number, last: number, generation: number): Promise<void> | undefined {
    return this.#change(first, last, (page, from, to) => page.fill(generation, from, to))
  }

  recordEach(first: number, generations: Uint32Array): Promise<void> | undefined {
    return this.#change(first, first + generations.length - 1, (page, from, to, block) => {
      page.set(generations.subarray(block - first, block - first + to - from), from)
    })
  }

  /** These blocks are no longer present. */
  clear(first: number, last: number): Promise<void> | undefined {
    return this.#change(first, last, (page, from, to) => page.fill(0, from, to))
  }

  #change(
    first: number,
    last: number,
    change: (page: FinePage, from: number, to: number, block: number) => void,
  ): Promise<void> | undefined {
    let block = first
    while (block <= last) {
      const region = regionOf(block)
      const page = this.#pages.get(region)
      if (page === undefined) break
      const start = region * blocksPerRegion
      const end = Math.min(last + 1, start + blocksPerRegion)
      change(page, block - start, end - start, block)
      this.#dirty.add(region)
      block = end
    }
    if (block > last) return undefined
    const rest = block
    return this.load(regionOf(rest)).then(() =>
      this.#change(rest, last, (page, from, to, at) => change(page, from, to, at)),
    )
  }

  snapshot(): MapSnapshot | undefined {
    if (this.#dirty.size === 0) return undefined
    const copies = new Map<number, FinePage>()
    for (const region of this.#dirty) {
      const page = this.#pages.get(region)
      if (page !== undefined) copies.set(region, page.slice())
    }
    this.#dirty.clear()
    // Snapshots are carried out in order; pages of one that waits must not be dropped either.
    const waiting = new Map([...this.#writing, ...copies])
    this.#writing = waiting
    return {
      before: () => this.#raise(copies),
      after: async () => {
        await writeFinePages(this.#handle, copies)
        await this.#handle.sync()
        if (this.#writing === waiting) this.#writing = new Map()
      },
    }
  }

  /** An entry is durable before a page that goes above it: so that no one who reads the map skips the page. */
  async #raise(pages: ReadonlyMap<number, FinePage>): Promise<void> {
    const raised: number[] = []
    for (const [region, page] of pages) {
      const max = highest(page)
      if (max <= (this.directory.maxes[region] ?? 0)) continue
      this.directory.maxes[region] = max
      raised.push(region)
    }
    await this.directory.commit(raised)
  }

  async settle(): Promise<void> {
    const snapshot = this.snapshot()
    await snapshot?.before()
    await snapshot?.after()
    const { directory } = this
    const marked = [...directory.marked]
    for (const region of marked) directory.coarse[region] = directory.residual.get(region) ?? 0
    await directory.commit(marked)
    directory.clearMarks()
  }

  async effective(region: number): Promise<FinePage> {
    if (!this.mayHold(region)) return new Uint32Array(blocksPerRegion)
    const page = (await this.#page(region)).slice()
    raisePresent(page, 0, page.length, this.directory.standing(region))
    return page
  }
}

function hasOlder(page: FinePage, region: number, first: number, last: number, generation: number): boolean {
  const start = region * blocksPerRegion
  const end = Math.min(last - start, blocksPerRegion - 1)
  for (let index = Math.max(first - start, 0); index <= end; index += 1) {
    const found = page[index] ?? 0
    if (found !== 0 && found !== generation) return true
  }
  return false
}

function raisePresent(page: FinePage, from: number, to: number, generation: number): void {
  for (let index = from; index < to; index += 1) {
    const found = page[index] ?? 0
    if (found !== 0 && found < generation) page[index] = generation
  }
}
