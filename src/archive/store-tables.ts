import {
  DIGEST_BYTES,
  KIND_DATA,
  KIND_ZERO,
  SECTOR_BYTES,
  STATE_DIGEST,
  STATE_PARTLY,
  WINDOW_BLOCKS,
  WINDOW_SECTORS,
  blockCount,
  hasDigests,
} from '../model/geometry.js'
import type { Chunk } from './chunk.js'
import { toSectors } from './format.js'
import { WindowBuilder } from './window-builder.js'
import { encodeTables, tablesDefect } from './window-tables.js'

/** The finished tables of a window, ready to be written, and the counts of its directory row. */
export interface EncodedWindow {
  readonly window: number
  readonly extents: number
  readonly runs: number
  readonly digests: number
  readonly bytes: Uint8Array
}

/**
 * The tables of one store while it is written: cuts extents and runs at window ends and gives up a window as soon as
 * nothing more can come into it, so that memory does not grow with the disk.
 *
 * What a chunk says is checked here: a wrong table would be found only when somebody needs the backup.
 */
export class StoreTables {
  readonly #store: string
  readonly #sizeBytes: number
  /** Ascending by window: those into which extents or runs may still come. */
  #open: WindowBuilder[] = []
  #extentEnd = 0
  #runEnd = 0
  dataExtents = 0
  zeroExtents = 0
  changedBytes = 0
  contentBytes = 0

  constructor(store: string, sizeBytes: number) {
    this.#store = store
    this.#sizeBytes = sizeBytes
  }

  /** Takes in a chunk whose content is in `frame`; returns the windows that are complete now. */
  add(chunk: Chunk, frame: number): EncodedWindow[] {
    this.#addExtents(chunk, frame)
    this.#addRuns(chunk)
    const reached = Math.min(this.#extentEnd / SECTOR_BYTES / WINDOW_SECTORS, this.#runEnd / WINDOW_BLOCKS)
    return this.#close(Math.floor(reached))
  }

  /** Returns the windows that were still open; nothing can be added any more. */
  finish(): EncodedWindow[] {
    return this.#close(Infinity)
  }

  #addExtents(chunk: Chunk, frame: number): void {
    const rows = chunk.extents
    if (rows.length % 4 !== 0) this.#refuse('extents are not rows of four')
    for (let row = 0; row < rows.length; row += 4) {
      const offset = rows[row] ?? 0
      const length = rows[row + 1] ?? 0
      const kind = rows[row + 2] ?? 0
      const at = rows[row + 3] ?? 0
      const end = offset + length
      if (offset < this.#extentEnd || offset % SECTOR_BYTES !== 0) this.#refuse(`an extent at ${offset}`)
      if (!(length > 0) || end > this.#sizeBytes) this.#refuse(`an extent of ${length} bytes at ${offset}`)
      if (length % SECTOR_BYTES !== 0 && end !== this.#sizeBytes) this.#refuse(`an extent that ends at ${end}`)
      if (kind === KIND_DATA) {
        if (at % SECTOR_BYTES !== 0 || at + length > chunk.contentBytes) this.#refuse(`content at ${at}`)
        this.contentBytes += length
      } else if (kind !== KIND_ZERO) this.#refuse(`an extent of kind ${kind}`)
      this.changedBytes += length
      this.#split(offset / SECTOR_BYTES, toSectors(length), kind, frame, at / SECTOR_BYTES)
      this.#extentEnd = end
    }
  }

  #split(start: number, sectors: number, kind: number, frame: number, at: number): void {
    let done = 0
    while (done < sectors) {
      const window = Math.floor((start + done) / WINDOW_SECTORS)
      const within = (start + done) % WINDOW_SECTORS
      const part = Math.min(sectors - done, WINDOW_SECTORS - within)
      this.#builder(window).addExtent(within, part, kind, frame, at + done)
      done += part
    }
  }

  #addRuns(chunk: Chunk): void {
    const rows = chunk.runs
    if (rows.length % 3 !== 0) this.#refuse('runs are not rows of three')
    const blocks = blockCount(this.#sizeBytes)
    let digest = 0
    for (let row = 0; row < rows.length; row += 3) {
      const first = rows[row] ?? 0
      const count = rows[row + 1] ?? 0
      const state = rows[row + 2] ?? 0
      if (!(count > 0) || first < this.#runEnd || first + count > blocks) this.#refuse(`a run at block ${first}`)
      if (state < STATE_DIGEST || state > STATE_PARTLY) this.#refuse(`a run of state ${state}`)
      for (let done = 0; done < count; ) {
        const within = (first + done) % WINDOW_BLOCKS
        const part = Math.min(count - done, WINDOW_BLOCKS - within)
        const bytes = hasDigests(state) ? part * DIGEST_BYTES : 0
        if (digest + bytes > chunk.digests.length) this.#refuse('fewer digests than its runs ask for')
        const builder = this.#builder(Math.floor((first + done) / WINDOW_BLOCKS))
        builder.addRun(within, part, state, chunk.digests.subarray(digest, digest + bytes))
        digest += bytes
        done += part
      }
      this.#runEnd = first + count
    }
    if (digest !== chunk.digests.length) this.#refuse('more digests than its runs ask for')
  }

  #builder(window: number): WindowBuilder {
    for (let index = this.#open.length - 1; index >= 0; index -= 1) {
      const builder = this.#open[index]
      if (builder?.window === window) return builder
      if (builder !== undefined && builder.window < window) {
        const added = new WindowBuilder(window)
        this.#open.splice(index + 1, 0, added)
        return added
      }
    }
    const added = new WindowBuilder(window)
    this.#open.unshift(added)
    return added
  }

  #close(before: number): EncodedWindow[] {
    const closed: EncodedWindow[] = []
    for (let builder = this.#open[0]; builder !== undefined && builder.window < before; builder = this.#open[0]) {
      this.#open.shift()
      const tables = builder.tables()
      const defect = tablesDefect(tables, {
        sectors: toSectors(this.#sizeBytes) - builder.window * WINDOW_SECTORS,
        blocks: blockCount(this.#sizeBytes) - builder.window * WINDOW_BLOCKS,
        frameSectors: () => Infinity,
      })
      if (defect !== undefined) this.#refuse(`tables of window ${builder.window} that disagree: ${defect}`)
      const data = builder.dataRows()
      this.dataExtents += data
      this.zeroExtents += tables.extents.count - data
      closed.push({
        window: builder.window,
        extents: tables.extents.count,
        runs: tables.runs.count,
        digests: tables.runs.digests.length / DIGEST_BYTES,
        bytes: encodeTables(tables),
      })
    }
    return closed
  }

  #refuse(what: string): never {
    throw new Error(`store ${this.#store}: a chunk brought ${what}`)
  }
}
