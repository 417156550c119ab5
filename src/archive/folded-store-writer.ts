import {
  blockCount,
  DIGEST_BYTES,
  KIND_DATA,
  SECTOR_BYTES,
  WINDOW_BLOCKS,
  WINDOW_SECTORS,
} from '../model/geometry.js'
import type { WindowTables } from '../model/tables.js'
import { dataMember, NO_FRAME, toSectors } from './format.js'
import { payloadBytes, type PayloadFrame } from './member-payload.js'
import type { StoreTotals, StoreWriterOptions } from './store-writer.js'
import { TablesWriter } from './tables-writer.js'
import { GrowableColumn } from './u32-columns.js'
import { encodeTables, tablesDefect } from './window-tables.js'

/** Content of one data member: what waits in memory for its header. */
const MEMBER_BYTES = 4 * 1024 ** 2

/** Tables that may wait for frames. */
const WAITING_WINDOWS = 256

/**
 * Writes one store of an archive from frames and tables that are made already: frames are counted from 0 as they come,
 * and tables name them by that count, in any order. A window's frames may come after its tables. One call at a time.
 */
export class FoldedStoreWriter {
  readonly #options: StoreWriterOptions
  readonly #tables: TablesWriter
  /** The number in the archive, and the sectors of content, of each frame by its count. */
  readonly #numbers = new GrowableColumn()
  readonly #sectors = new GrowableColumn()
  #payload: PayloadFrame[] = []
  #payloadBytes = 0
  #members = 0
  /** Windows some of whose frames have no number yet, ascending; `frames` is how many must have one. */
  #waiting: { readonly window: number; readonly tables: WindowTables; readonly frames: number }[] = []
  #totals = { dataExtents: 0, zeroExtents: 0, changedBytes: 0, contentBytes: 0, storedBytes: 0 }

  constructor(options: StoreWriterOptions) {
    this.#options = options
    this.#tables = new TablesWriter(options)
  }

  /** Takes the store's next frame. Its memory is the writer's until `consumed` is called; never, where that fails. */
  async addFrame(frame: PayloadFrame): Promise<void> {
    this.#payload.push(frame)
    this.#payloadBytes += frame.contentBytes
    this.#totals.storedBytes += frame.frame.length
    if (this.#payloadBytes >= MEMBER_BYTES) await this.#writeData()
  }

  /** Takes the tables of the next window; `frames` is how many frames, counted from the store's first, they may name. */
  async addWindow(window: number, tables: WindowTables, frames: number): Promise<void> {
    this.#waiting.push({ window, tables, frames })
    if (this.#waiting.length > WAITING_WINDOWS) await this.#writeData()
    else await this.#writeWindows()
  }

  /** Ends the store. */
  async finish(contentSum: string | null): Promise<StoreTotals> {
    await this.#writeData()
    const [left] = this.#waiting
    if (left !== undefined) throw this.#error(`window ${left.window} names frames that never came`)
    this.#options.finished(await this.#tables.finish(contentSum))
    return this.#totals
  }

  async #writeData(): Promise<void> {
    const payload = this.#payload
    if (payload.length > 0) {
      this.#payload = []
      this.#payloadBytes = 0
      const member = dataMember(this.#options.name, this.#members)
      this.#members += 1
      const first = await this.#options.writeMember(member, payloadBytes(payload), payload)
      for (const [index, { contentBytes }] of payload.entries()) {
        this.#numbers.push(first + index)
        this.#sectors.push(contentBytes / SECTOR_BYTES)
      }
    }
    await this.#writeWindows()
  }

  async #writeWindows(): Promise<void> {
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      if (next.frames > this.#numbers.length) return
      this.#waiting.shift()
      await this.#writeWindow(next.window, next.tables)
    }
  }

  async #writeWindow(window: number, tables: WindowTables): Promise<void> {
    const { sizeBytes } = this.#options
    const { extents, runs } = tables
    const windowSectors = toSectors(sizeBytes) - window * WINDOW_SECTORS
    const defect = tablesDefect(tables, {
      sectors: windowSectors,
      blocks: blockCount(sizeBytes) - window * WINDOW_BLOCKS,
      frameSectors: (frame) => (frame < this.#sectors.length ? this.#sectors.at(frame) : 0),
    })
    if (defect !== undefined) throw this.#error(`tables of window ${window} disagree: ${defect}`)
    const frame = new Uint32Array(extents.count)
    for (let row = 0; row < extents.count; row += 1) {
      const data = extents.kind[row] === KIND_DATA
      frame[row] = data ? this.#numbers.at(extents.frame[row] ?? NO_FRAME) : NO_FRAME
      // A store may end within its last sector.
      const end = (extents.start[row] ?? 0) + (extents.sectors[row] ?? 0)
      const fill = end === windowSectors ? toSectors(sizeBytes) * SECTOR_BYTES - sizeBytes : 0
      const bytes = (extents.sectors[row] ?? 0) * SECTOR_BYTES - fill
      this.#totals.changedBytes += bytes
      if (data) {
        this.#totals.contentBytes += bytes
        this.#totals.dataExtents += 1
      } else this.#totals.zeroExtents += 1
    }
    const digests = runs.digests.length / DIGEST_BYTES
    const bytes = encodeTables({ extents: { ...extents, frame }, runs })
    await this.#tables.add([{ window, extents: extents.count, runs: runs.count, digests, bytes }])
  }

  #error(what: string): Error {
    return new Error(`store ${this.#options.name}: ${what}`)
  }
}
