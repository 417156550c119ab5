import type { Native } from '../../files/native.js'
import { dataExtents } from '../../files/sparse.js'
import type { Disk } from './disk.js'
import { type Layer, removeLayerFiles } from './layer.js'
import { blocksPerRegion } from './map-layout.js'

/** How much is copied between two looks at whether to pause: also the most that one guest write can wait for. */
const runBytes = 1024 * 1024

interface Pair {
  readonly upper: Layer
  readonly lower: Layer
}

/**
 * Merges overlays that nothing needs any more into the layer below, lowest first, one at a time.
 *
 * While the top overlay is drained, writes already go to the layer below: a block still present in the overlay hides
 * it there, so it is copied down (or overwritten as a whole) under its lock and then cleared from the overlay's map.
 * The overlay's files go after everything is durable below and disk.json no longer lists it. After a crash at any
 * moment the overlay is still listed, with each block present or durable below, and draining starts over.
 */
export class Drain {
  readonly #disk: Disk
  readonly #native: Native | undefined
  readonly #background: boolean
  #pauses = 0
  #running: Promise<void> | undefined
  /** Why draining stopped, if it failed; it is tried again at the next start. */
  failure: unknown

  /** `background`: starts by itself whenever there is something to drain. */
  constructor(disk: Disk, options: { readonly native: Native | undefined; readonly background: boolean }) {
    this.#disk = disk
    this.#native = options.native
    this.#background = options.background
  }

  start(): void {
    if (this.#background) void this.run().catch(() => undefined)
  }

  /** Drains until nothing can be drained or somebody pauses it. */
  run(): Promise<void> {
    if (this.#running !== undefined) return this.#running
    if (this.#pauses > 0) return Promise.resolve()
    this.failure = undefined
    this.#running = this.#loop()
    return this.#running
  }

  /** Resolves when draining stands still; it does until `resume` was called as often. */
  async pause(): Promise<void> {
    this.#pauses += 1
    await this.#running?.catch(() => undefined)
  }

  resume(): void {
    this.#pauses -= 1
    if (this.#pauses === 0) this.start()
  }

  async #loop(): Promise<void> {
    await Promise.resolve()
    try {
      for (let pair = this.#next(); pair !== undefined; pair = this.#next()) {
        const { upper, lower } = pair
        await this.#disk.structure.run(() => this.#begin(upper, lower))
        if (!(await this.#copy(upper, lower))) return
        await this.#disk.structure.run(() => this.#finish(upper, lower))
      }
    } catch (error) {
      this.failure = error
      throw error
    } finally {
      // In the same turn as the last look for work: whoever starts it later finds it ended, and work is not missed.
      this.#running = undefined
    }
  }

  #next(): Pair | undefined {
    if (this.#pauses > 0) return undefined
    const { layers } = this.#disk.stack
    for (const [index, upper] of layers.entries()) {
      const lower = layers[index - 1]
      if (lower === undefined || lower.record.name !== undefined || this.#disk.isPinned(lower)) continue
      return { upper, lower }
    }
    return undefined
  }

  async #begin(upper: Layer, lower: Layer): Promise<void> {
    const { stack } = this.#disk
    if (stack.top !== upper) return
    await this.#disk.quiesced('writes', () => {
      stack.target = lower
    })
  }

  /** False when it was paused. */
  async #copy(upper: Layer, lower: Layer): Promise<boolean> {
    const { overlay } = upper
    if (overlay === undefined) return true
    const step = Math.max(1, Math.floor(runBytes / this.#disk.blockBytes))
    for (let region = 0; region < overlay.directory.regions; region += 1) {
      if (!overlay.mayHold(region)) continue
      const start = region * blocksPerRegion
      for (let first = start; first < start + blocksPerRegion; first += step) {
        if (this.#pauses > 0) return false
        const last = Math.min(first + step, start + blocksPerRegion) - 1
        await this.#fold(upper, lower, first, last)
      }
    }
    return true
  }

  async #fold(upper: Layer, lower: Layer, first: number, last: number): Promise<void> {
    const { overlay } = upper
    if (overlay === undefined || (await this.#present(upper, first, last)).length === 0) return
    const unlock = await this.#disk.writer.lock(first, last)
    try {
      for (const run of await this.#present(upper, first, last)) {
        const end = run.first + run.generations.length - 1
        await lower.map.prepare(run.first, end, this.#disk.generation)
        try {
          await this.#copyData(upper, lower, run.first, end)
        } finally {
          lower.touched()
        }
        await lower.map.recordEach(run.first, run.generations)
        await overlay.clear(run.first, end)
      }
    } finally {
      unlock()
    }
    if (lower.map.pressed || upper.map.pressed) await this.#disk.flush()
  }

  async #present(upper: Layer, first: number, last: number): Promise<{ first: number; generations: Uint32Array }[]> {
    const region = Math.floor(first / blocksPerRegion)
    const page = await upper.map.effective(region)
    const runs: { first: number; generations: Uint32Array }[] = []
    const start = region * blocksPerRegion
    for (let index = first - start; index <= last - start; index += 1) {
      if (page[index] === 0) continue
      let end = index + 1
      while (end <= last - start && page[end] !== 0) end += 1
      runs.push({ first: start + index, generations: page.subarray(index, end) })
      index = end
    }
    return runs
  }

  async #copyData(upper: Layer, lower: Layer, first: number, last: number): Promise<void> {
    const { blockBytes, sizeBytes } = this.#disk
    const offset = first * blockBytes
    const length = Math.min((last + 1) * blockBytes, sizeBytes) - offset
    for (const page of dataExtents(upper.data.fd, { offset, length }, this.#native)) {
      for (const extent of page) {
        const bytes = extent.kind === 'zero' ? undefined : Buffer.alloc(extent.length)
        if (bytes !== undefined) await upper.data.read(bytes, extent.offset)
        if (bytes === undefined || isZero(bytes)) await lower.data.zero(extent.offset, extent.length)
        else await lower.data.write([bytes], extent.offset)
      }
    }
  }

  /** Everything is in the lower layer: it takes over the upper one's name, and the upper one goes. */
  async #finish(upper: Layer, lower: Layer): Promise<void> {
    const disk = this.#disk
    await disk.flush()
    const record = { ...upper.record, id: lower.id }
    const rest = disk.file.layers.filter(({ id }) => id !== upper.id)
    await disk.persist({ ...disk.file, layers: rest.map((layer) => (layer.id === lower.id ? record : layer)) })
    await disk.quiesced('reads and writes', () =>
      disk.syncing(async () => {
        disk.stack.layers = disk.stack.layers.filter((layer) => layer !== upper)
        lower.record = record
        await upper.close()
      }),
    )
    await removeLayerFiles(disk.files, disk.folder, upper.id)
  }
}

function isZero(bytes: Buffer): boolean {
  return bytes.length === 0 || (bytes[0] === 0 && bytes.compare(bytes, 1, bytes.length, 0, bytes.length - 1) === 0)
}
