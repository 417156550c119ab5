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
export function decodeDirectory(bytes: Uint8Array, windows: number, windowLimit: number): DirectoryRow[] | string {
  if (windows > windowLimit || windows * ROW_WORDS * 4 > bytes.length) return `it can not hold ${windows} windows`
  const words = getWords(bytes, 0, bytes.length / 4)
  const rows: DirectoryRow[] = []
  for (let index = 0; index < windows; index += 1) {
    const [window = 0, extents = 0, runs = 0, digests = 0, frame = 0, at = 0, length = 0] = words.subarray(
      index * ROW_WORDS,
      (index + 1) * ROW_WORDS,
    )
    if (window >= windowLimit || window <= (rows.at(-1)?.window ?? -1)) return `row ${index} names window ${window}`
    if (extents > WINDOW_SECTORS || runs > WINDOW_BLOCKS || digests > WINDOW_BLOCKS) {
      return `window ${window} has more rows than a window can have`
    }
    if (extents === 0 || runs === 0) return `window ${window} has empty tables`
    if (length !== tablesBytes(extents, runs, digests)) return `window ${window} has tables of ${length} bytes`
    if (at % 4 !== 0 || at >= FRAME_CONTENT_BYTES) return `window ${window} begins at byte ${at} of a frame`
    rows.push({ window, extents, runs, digests, frame, at, bytes: length })
  }
  const rest = words.subarray(windows * ROW_WORDS)
  if (rest.some((word) => word !== END)) return `rows follow after its ${windows} windows`
  return rows
}
