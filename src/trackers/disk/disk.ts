import type { Files } from '../../files/files.js'
import type { Native } from '../../files/native.js'
import { RefpointError } from '../../model/errors.js'
import { BlockWriter } from './block-writer.js'
import { type DiskFile, writeDiskFile } from './disk-file.js'
import { Gate } from './gate.js'
import { type Layer, type LayerPlace } from './layer.js'
import { LayerStack } from './layer-stack.js'
import { blocksPerRegion, regionOf } from './map-layout.js'
import { Mutex } from './mutex.js'

/** Layers that must not change, files included, because somebody reads them: a prefix of the stack. */
export interface Pin {
  readonly layers: readonly Layer[]
}

export interface DiskParts {
  readonly files: Files
  readonly native: Native | undefined
  readonly folder: string
  readonly file: DiskFile
  readonly layers: readonly [Layer, ...Layer[]]
}

/**
 * One open tracked disk: its bytes, and the order in which they become durable.
 *
 * Structure (which layers there are) changes only within `structure`, one change at a time. Bytes are written within
 * the gate `writes` and read within `reads`; a structural change closes them for the moment in which it switches.
 * Everything that syncs runs through one chain, so that snapshots of the maps reach the disk in order.
 */
export class Disk {
  readonly files: Files
  readonly folder: string
  readonly stack: LayerStack
  readonly structure = new Mutex()
  readonly writes = new Gate()
  readonly reads = new Gate()
  readonly writer: BlockWriter
  readonly pins = new Set<Pin>()
  /** disk.json as it is on disk. */
  file: DiskFile
  /** The generation of writes now; behind `file.generation` only while a checkpoint is being made. */
  generation: number
  sizeBytes: number
  readonly #syncs = new Mutex()
  #waitingFlush: Promise<void> | undefined
  #failure: unknown

  constructor(parts: DiskParts) {
    this.files = parts.files
    this.folder = parts.folder
    this.file = parts.file
    this.generation = parts.file.generation
    this.sizeBytes = parts.file.sizeBytes
    this.stack = new LayerStack(parts.layers, parts.file.blockBytes)
    this.writer = new BlockWriter(this.stack, parts.native)
  }

  get blockBytes(): number {
    return this.file.blockBytes
  }

  get place(): LayerPlace {
    return { files: this.files, folder: this.folder, sizeBytes: this.sizeBytes, blockBytes: this.blockBytes }
  }

  read(into: Uint8Array, offset: number): Promise<void> {
    return this.reading((stack) => stack.read(into, offset))
  }

  /** Runs a task while no layer is taken away from under it. */
  async reading<T>(task: (stack: LayerStack) => Promise<T>): Promise<T> {
    for (let wait = this.reads.enter(); wait !== undefined; wait = this.reads.enter()) await wait
    try {
      return await task(this.stack)
    } finally {
      this.reads.leave()
    }
  }

  /** Per layer, the generations of a region's blocks as they are now; 0 where the layer has no such block. */
  generations(region: number): Promise<readonly Uint32Array[]> {
    return this.reading((stack) =>
      this.syncing(() => Promise.all(stack.layers.map((layer) => layer.map.effective(region)))),
    )
  }

  async write(pieces: readonly Uint8Array[], offset: number): Promise<void> {
    let length = 0
    for (const piece of pieces) length += piece.length
    if (length === 0) return
    for (let wait = this.writes.enter(); wait !== undefined; wait = this.writes.enter()) await wait
    try {
      this.#assertWithin(offset, length)
      await this.writer.write(pieces, offset, length, this)
    } finally {
      this.writes.leave()
    }
    if (this.stack.target.map.pressed) await this.flush()
  }

  /** Makes a range read as zeroes, as a hole where the file system can. */
  async zero(offset: number, length: number): Promise<void> {
    const end = offset + length
    for (let at = offset; at < end; ) {
      const regionEnd = (regionOf(Math.floor(at / this.blockBytes)) + 1) * blocksPerRegion * this.blockBytes
      const to = Math.min(end, regionEnd)
      for (let wait = this.writes.enter(); wait !== undefined; wait = this.writes.enter()) await wait
      try {
        this.#assertWithin(at, to - at)
        await this.writer.zero(at, to - at, this)
      } finally {
        this.writes.leave()
      }
      if (this.stack.target.map.pressed) await this.flush()
      at = to
    }
  }

  /** A client may have learnt the size before the disk was resized. */
  #assertWithin(offset: number, length: number): void {
    if (offset + length <= this.sizeBytes) return
    throw new RefpointError('io', `${this.folder}: bytes ${offset} to ${offset + length} lie past the end of the disk`)
  }

  /** Zeroes the whole blocks of a range; the guest does not care, but what it reads must be tracked like any change. */
  async trim(offset: number, length: number): Promise<void> {
    const end = offset + length
    const from = Math.ceil(offset / this.blockBytes) * this.blockBytes
    const to = end === this.sizeBytes ? end : Math.floor(end / this.blockBytes) * this.blockBytes
    if (to > from) await this.zero(from, to - from)
  }

  /** Everything that resolved before this call is durable when it resolves. Flushes that come together share one. */
  flush(): Promise<void> {
    this.#waitingFlush ??= this.syncing(async () => {
      this.#waitingFlush = undefined
      // Taken together, carried out lowest first: a drained block leaves its layer when it is durable in the one below.
      for (const makeDurable of this.stack.layers.map((layer) => layer.snapshot())) await makeDurable?.()
    })
    return this.#waitingFlush
  }

  /** Makes layers that nobody writes to durable and their maps exact, lowest first. */
  settle(layers: readonly Layer[]): Promise<void> {
    return this.syncing(async () => {
      for (const layer of layers) await layer.settle()
    })
  }

  /**
   * Runs a task in the order of syncs. When one fails, nobody knows what reached the disk, and the kernel says so only
   * once: so this disk refuses every later flush until it is opened again.
   */
  syncing<T>(task: () => Promise<T>): Promise<T> {
    return this.#syncs.run(async () => {
      if (this.#failure !== undefined) throw this.#refusal()
      try {
        return await task()
      } catch (error) {
        this.#failure = error
        throw this.#refusal()
      }
    })
  }

  get failed(): boolean {
    return this.#failure !== undefined
  }

  #refusal(): RefpointError {
    const reason = this.#failure instanceof Error ? this.#failure.message : String(this.#failure)
    return new RefpointError('io', `${this.folder}: writing to disk failed: ${reason}`, {
      cause: this.#failure,
      hint: 'Free space or repair the storage, then start the disk again: nothing flushed before is lost.',
      fields: { folder: this.folder },
    })
  }

  /** Within `structure`: replaces disk.json. */
  async persist(file: DiskFile): Promise<void> {
    await writeDiskFile(this.files, this.folder, file)
    this.file = file
  }

  /** Runs `task` at an instant when nobody writes and, where said, nobody reads. */
  async quiesced<T>(what: 'writes' | 'reads and writes', task: () => T | Promise<T>): Promise<T> {
    await this.writes.close()
    try {
      if (what === 'writes') return await task()
      await this.reads.close()
      try {
        return await task()
      } finally {
        this.reads.open()
      }
    } finally {
      this.writes.open()
    }
  }

  isPinned(layer: Layer): boolean {
    for (const pin of this.pins) if (pin.layers.includes(layer)) return true
    return false
  }

  /** Flushes and closes. Nobody may read or write any more. */
  async close(): Promise<void> {
    await this.structure.run(() =>
      this.quiesced('reads and writes', async () => {
        try {
          // After a failure the coarse marks stay on disk: they say that everything near may have changed.
          if (!this.failed) await this.settle(this.stack.layers)
        } finally {
          for (const layer of this.stack.layers) await layer.close()
        }
      }),
    )
  }
}
