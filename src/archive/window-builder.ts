import { DIGEST_BYTES, hasDigests, KIND_DATA, KIND_ZERO, WINDOW_BLOCKS } from '../model/geometry.js'
import type { WindowTables } from '../model/tables.js'
import { NO_FRAME } from './format.js'
import { GrowableColumn } from './u32-columns.js'

/** Gathers the tables of one window; rows come in ascending order, and what continues the last row is joined to it. */
export class WindowBuilder {
  readonly window: number
  readonly #start = new GrowableColumn()
  readonly #sectors = new GrowableColumn()
  readonly #kind = new GrowableColumn()
  readonly #frame = new GrowableColumn()
  readonly #at = new GrowableColumn()
  readonly #first = new GrowableColumn()
  readonly #blocks = new GrowableColumn()
  readonly #state = new GrowableColumn()
  #digests = new Uint8Array(64 * DIGEST_BYTES)
  #digestBytes = 0

  constructor(window: number) {
    this.window = window
  }

  /** In sectors from the window's start; `frame` and `at` count only for data. */
  addExtent(start: number, sectors: number, kind: number, frame: number, at: number): void {
    const last = this.#start.length - 1
    if (last >= 0 && this.#kind.at(last) === kind) {
      const length = this.#sectors.at(last)
      const follows = this.#start.at(last) + length === start
      if (follows && (kind === KIND_ZERO || (this.#frame.at(last) === frame && this.#at.at(last) + length === at))) {
        this.#sectors.addToLast(sectors)
        return
      }
    }
    this.#start.push(start)
    this.#sectors.push(sectors)
    this.#kind.push(kind)
    this.#frame.push(kind === KIND_DATA ? frame : NO_FRAME)
    this.#at.push(kind === KIND_DATA ? at : 0)
  }

  /** In blocks from the window's start; `digests` holds 16 bytes for each block of a run with state 1 or 4, else nothing. */
  addRun(first: number, blocks: number, state: number, digests: Uint8Array): void {
    const last = this.#first.length - 1
    if (last >= 0 && this.#state.at(last) === state && this.#first.at(last) + this.#blocks.at(last) === first) {
      this.#blocks.addToLast(blocks)
    } else {
      this.#first.push(first)
      this.#blocks.push(blocks)
      this.#state.push(state)
    }
    if (hasDigests(state)) this.#addDigests(digests)
  }

  #addDigests(digests: Uint8Array): void {
    const needed = this.#digestBytes + digests.length
    if (needed > this.#digests.length) {
      const grown = new Uint8Array(Math.max(needed, Math.min(this.#digests.length * 2, WINDOW_BLOCKS * DIGEST_BYTES)))
      grown.set(this.#digests.subarray(0, this.#digestBytes))
      this.#digests = grown
    }
    this.#digests.set(digests, this.#digestBytes)
    this.#digestBytes = needed
  }

  tables(): WindowTables {
    return {
      extents: {
        count: this.#start.length,
        start: this.#start.view(),
        sectors: this.#sectors.view(),
        kind: this.#kind.view(),
        frame: this.#frame.view(),
        at: this.#at.view(),
      },
      runs: {
        count: this.#first.length,
        first: this.#first.view(),
        blocks: this.#blocks.view(),
        state: this.#state.view(),
        digests: this.#digests.subarray(0, this.#digestBytes),
      },
    }
  }

  /** How many of the extent rows are data. */
  dataRows(): number {
    let rows = 0
    for (const kind of this.#kind.view()) if (kind === KIND_DATA) rows += 1
    return rows
  }
}
