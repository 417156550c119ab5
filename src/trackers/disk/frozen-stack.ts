import { closeSync, openSync, readSync } from 'node:fs'
import type { Native } from '../../files/native.js'
import { dataExtents } from '../../files/sparse.js'
import type { Extent, Range } from '../../model/extent.js'
import type { LayersSource } from '../../model/source.js'
import { FrozenMap } from './frozen-map.js'
import { blocksPerRegion, regionCount } from './map-layout.js'

const pageRows = 1024

interface FrozenLayer {
  readonly fd: number
  readonly map: FrozenMap
}

/**
 * Layers that do not change any more, lowest first, read straight from their files with synchronous calls: one per
 * thread, wherever a checkpoint's bytes or its changes are asked for. Offsets and lengths are bytes.
 */
export class FrozenStack {
  readonly #source: LayersSource
  readonly #regions: number
  readonly #layers: readonly FrozenLayer[]
  readonly #native: Native | undefined
  #closed = false

  constructor(source: LayersSource, native: Native | undefined) {
    this.#source = source
    this.#native = native
    this.#regions = regionCount(source.sizeBytes, source.blockBytes)
    const layers: FrozenLayer[] = []
    try {
      for (const { data, map } of source.layers) {
        const fd = openSync(data, 'r')
        try {
          layers.push({ fd, map: new FrozenMap(map, source.blockBytes, this.#regions) })
        } catch (error) {
          closeSync(fd)
          throw error
        }
      }
    } catch (error) {
      for (const layer of layers) closeLayer(layer)
      throw error
    }
    this.#layers = layers
  }

  /** Bytes read from map files so far. */
  get mapBytesRead(): number {
    return this.#layers.reduce((sum, { map }) => sum + map.bytesRead, 0)
  }

  /** Fills all of `into`; what lies past the end of the disk reads as zeroes. */
  read(into: Uint8Array, offset: number): void {
    const [base] = this.#layers
    if (base === undefined) return
    const length = Math.max(0, Math.min(into.length, this.#source.sizeBytes - offset))
    into.fill(0, length)
    if (this.#layers.length === 1) return readFully(base.fd, into.subarray(0, length), offset)
    for (const run of this.#provided(offset, length)) {
      readFully(run.layer.fd, into.subarray(run.from - offset, run.to - offset), run.from)
    }
  }

  /** Ranges with a block written in a generation after `since`, whole blocks, in pages; ascending and joined. */
  *changedSince(since: number): Generator<readonly Range[]> {
    const { blockBytes, sizeBytes } = this.#source
    let page: Range[] = []
    let open: { first: number; end: number } | undefined
    const close = (): void => {
      if (open === undefined) return
      const offset = open.first * blockBytes
      page.push({ offset, length: Math.min(open.end * blockBytes, sizeBytes) - offset })
      open = undefined
    }
    for (let region = 0; region < this.#regions; region += 1) {
      const changed = this.#changedBlocks(region, since)
      if (changed === undefined) continue
      const start = region * blocksPerRegion
      const blocks = Math.min(blocksPerRegion, Math.ceil(sizeBytes / blockBytes) - start)
      for (let index = 0; index < blocks; index += 1) {
        if (changed[index] === 0) continue
        if (open?.end === start + index) open.end += 1
        else {
          close()
          open = { first: start + index, end: start + index + 1 }
        }
      }
      if (page.length >= pageRows) {
        yield page
        page = []
      }
    }
    close()
    if (page.length > 0) yield page
  }

  /** Covers the range without gaps: `zero` for holes in the file of whatever layer provides the bytes. */
  *allocated(range: Range): Generator<readonly Extent[]> {
    let page: Extent[] = []
    for (const run of this.#provided(range.offset, range.length)) {
      const part = { offset: run.from, length: run.to - run.from }
      for (const extents of dataExtents(run.layer.fd, part, this.#native)) {
        for (const extent of extents) {
          const last = page.at(-1)
          if (last !== undefined && last.kind === extent.kind && last.offset + last.length === extent.offset) {
            page[page.length - 1] = { ...last, length: last.length + extent.length }
          } else page.push(extent)
        }
        if (page.length >= pageRows) {
          yield page
          page = []
        }
      }
    }
    if (page.length > 0) yield page
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    for (const layer of this.#layers) closeLayer(layer)
  }

  /** 1 for each block of the region that changed; undefined when none did, told by the directory alone. */
  #changedBlocks(region: number, since: number): Uint8Array | undefined {
    let changed: Uint8Array | undefined
    for (const [index, { map }] of this.#layers.entries()) {
      const coarse = map.coarse(region)
      if (map.max(region) <= since && coarse <= since) continue
      changed ??= new Uint8Array(blocksPerRegion)
      if (index === 0 && coarse > since) return changed.fill(1)
      const page = map.page(region)
      if (page === undefined) continue
      for (let block = 0; block < blocksPerRegion; block += 1) {
        const generation = page[block] ?? 0
        const written = index === 0 || generation !== 0
        if (written && Math.max(generation, coarse) > since) changed[block] = 1
      }
    }
    return changed
  }

  /** The range cut where another layer provides the bytes; the base provides what no overlay holds. */
  *#provided(offset: number, length: number): Generator<{ from: number; to: number; layer: FrozenLayer }> {
    const { blockBytes } = this.#source
    const end = offset + length
    const overlays = this.#layers.slice(1).toReversed()
    const [base] = this.#layers
    if (base === undefined) return
    const regionBytes = blocksPerRegion * blockBytes
    let open: { from: number; to: number; layer: FrozenLayer } | undefined
    for (let at = offset; at < end; ) {
      const region = Math.floor(at / regionBytes)
      const regionEnd = Math.min(end, (region + 1) * regionBytes)
      const holders = overlays.flatMap((layer) => {
        const page = layer.map.page(region)
        return page === undefined ? [] : [{ layer, page }]
      })
      while (at < regionEnd) {
        const block = Math.floor(at / blockBytes)
        const index = block - region * blocksPerRegion
        const layer = holders.find(({ page }) => page[index] !== 0)?.layer ?? base
        const to = holders.length === 0 ? regionEnd : Math.min(regionEnd, (block + 1) * blockBytes)
        if (open?.layer === layer) open.to = to
        else {
          if (open !== undefined) yield open
          open = { from: at, to, layer }
        }
        at = to
      }
    }
    if (open !== undefined) yield open
  }
}

function readFully(fd: number, into: Uint8Array, offset: number): void {
  let done = 0
  while (done < into.length) {
    const count = readSync(fd, into, done, into.length - done, offset + done)
    if (count === 0) break
    done += count
  }
  into.fill(0, done)
}

function closeLayer({ fd, map }: FrozenLayer): void {
  closeSync(fd)
  map.close()
}
