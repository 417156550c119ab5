import { FRAME_CONTENT_BYTES, WINDOW_BLOCKS, WINDOW_SECTORS } from '../model/geometry.js'
import { getWords, putWords } from './u32-columns.js'
import { tablesBytes } from './window-tables.js'

const ROW_WORDS = 7
const END = 0xffffffff

/** Where one window's tables are, and how many rows they have (FORMAT.md §5). */
export interface DirectoryRow {
  readonly window: number
  readonly extents: number
  readonly runs: number
  readonly digests: number
  readonly frame: number
  readonly at: number
  readonly bytes: number
}

/** A whole directory in 28 bytes of memory a row: a long chain of a large disk has 100,000s of them. */
export class Directory {
  readonly count: number
  readonly #words: Uint32Array

  /** @param words of rows that ascend by window. */
  constructor(words: Uint32Array) {
    this.count = words.length / ROW_WORDS
    this.#words = words
  }

  row(index: number): DirectoryRow {
    if (!(index >= 0 && index < this.count)) throw new RangeError(`no row ${index} in a directory of ${this.count}`)
    return rowAt(this.#words, index)
  }

  /** The row of a window, or undefined. */
  find(window: number): DirectoryRow | undefined {
    let low = 0
    let high = this.count
    while (low < high) {
      const middle = (low + high) >> 1
      if ((this.#words[middle * ROW_WORDS] ?? 0) < window) low = middle + 1
      else high = middle
    }
    return low < this.count && this.#words[low * ROW_WORDS] === window ? this.row(low) : undefined
  }

  /** Ascending. */
  windows(): number[] {
    return Array.from({ length: this.count }, (_, index) => this.#words[index * ROW_WORDS] ?? 0)
  }
}

function rowAt(words: Uint32Array, index: number): DirectoryRow {
  const [window = 0, extents = 0, runs = 0, digests = 0, frame = 0, at = 0, bytes = 0] = words.subarray(
    index * ROW_WORDS,
    (index + 1) * ROW_WORDS,
  )
  return { window, extents, runs, digests, frame, at, bytes }
}

/** Not yet filled up to whole sectors, which is done with 0xFF. */
export function encodeDirectory(rows: readonly DirectoryRow[]): Uint8Array {
  const words = new Uint32Array(rows.length * ROW_WORDS)
  for (const [index, row] of rows.entries()) {
    words.set([row.window, row.extents, row.runs, row.digests, row.frame, row.at, row.bytes], index * ROW_WORDS)
  }
  const bytes = new Uint8Array(words.byteLength)
  putWords(bytes, 0, words)
  return bytes
}

/** Parses a directory and checks everything that can be told without the frames; returns what is wrong as a string. */
export function decodeDirectory(bytes: Uint8Array, windows: number, windowLimit: number): Directory | string {
  if (windows > windowLimit || windows * ROW_WORDS * 4 > bytes.length) return `it can not hold ${windows} windows`
  const words = getWords(bytes, 0, bytes.length / 4)
  let last = -1
  for (let index = 0; index < windows; index += 1) {
    const { window, extents, runs, digests, at, bytes: length } = rowAt(words, index)
    if (window >= windowLimit || window <= last) return `row ${index} names window ${window}`
    last = window
    if (extents > WINDOW_SECTORS || runs > WINDOW_BLOCKS || digests > WINDOW_BLOCKS) {
      return `window ${window} has more rows than a window can have`
    }
    if (extents === 0 || runs === 0) return `window ${window} has empty tables`
    if (length !== tablesBytes(extents, runs, digests)) return `window ${window} has tables of ${length} bytes`
    if (at % 4 !== 0 || at >= FRAME_CONTENT_BYTES) return `window ${window} begins at byte ${at} of a frame`
  }
  const rest = words.subarray(windows * ROW_WORDS)
  if (rest.some((word) => word !== END)) return `rows follow after its ${windows} windows`
  return new Directory(words.slice(0, windows * ROW_WORDS))
}
