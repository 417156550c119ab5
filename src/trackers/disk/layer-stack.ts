import type { Layer } from './layer.js'
import { blocksPerRegion, regionOf } from './map-layout.js'

/** Consecutive blocks that one layer provides. `last` is inclusive. */
export interface ProvidedRun {
  readonly first: number
  readonly last: number
  readonly layer: Layer
}

/**
 * The open layers of a disk, lowest first. Writes go to `target`: the top, or the layer below it while the top is
 * being drained into that one. A block is provided by the highest layer in which it is present, else by the base.
 */
export class LayerStack {
  readonly blockBytes: number
  layers: readonly Layer[]
  target: Layer
  readonly base: Layer

  constructor(layers: readonly [Layer, ...Layer[]], blockBytes: number) {
    this.layers = layers
    this.blockBytes = blockBytes
    this.base = layers[0]
    this.target = layers.at(-1) ?? layers[0]
  }

  get top(): Layer {
    return this.layers.at(-1) ?? this.base
  }

  /** The layer being drained into the target, whose blocks hide the target's. */
  get above(): Layer | undefined {
    return this.target === this.top ? undefined : this.top
  }

  /** Fills all of `into`; what lies past the end of a file reads as zeroes. */
  async read(into: Uint8Array, offset: number): Promise<void> {
    if (this.layers.length === 1) return readData(this.base, into, offset)
    const end = offset + into.length
    const lastBlock = Math.floor((end - 1) / this.blockBytes)
    const reads: Promise<void>[] = []
    for (let block = Math.floor(offset / this.blockBytes); block <= lastBlock; ) {
      const regionEnd = (regionOf(block) + 1) * blocksPerRegion - 1
      for (const run of await this.providers(block, Math.min(lastBlock, regionEnd))) {
        const from = Math.max(offset, run.first * this.blockBytes)
        const to = Math.min(end, (run.last + 1) * this.blockBytes)
        reads.push(readData(run.layer, into.subarray(from - offset, to - offset), from))
      }
      block = regionEnd + 1
    }
    await Promise.all(reads)
  }

  /** Who provides blocks `first`…`last`, which are of one region. */
  async providers(first: number, last: number): Promise<readonly ProvidedRun[]> {
    const region = regionOf(first)
    for (;;) {
      const overlays = this.layers.flatMap(({ overlay }) => overlay ?? [])
      const missing = overlays.find((overlay) => overlay.mayHold(region) && overlay.loaded(region) === undefined)
      if (missing === undefined) break
      await missing.load(region)
    }
    const holders = this.layers.toReversed().flatMap((layer) => {
      const page = layer.overlay?.loaded(region)
      return page === undefined ? [] : [{ layer, page }]
    })
    const runs: { first: number; last: number; layer: Layer }[] = []
    const start = region * blocksPerRegion
    for (let block = first; block <= last; block += 1) {
      const layer = holders.find(({ page }) => page[block - start] !== 0)?.layer ?? this.base
      const run = runs.at(-1)
      if (run?.layer === layer) run.last = block
      else runs.push({ first: block, last: block, layer })
    }
    return runs
  }
}

async function readData(layer: Layer, into: Uint8Array, offset: number): Promise<void> {
  const count = await layer.data.read(into, offset)
  if (count < into.length) into.fill(0, count)
}
