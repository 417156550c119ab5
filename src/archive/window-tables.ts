import {
  DIGEST_BYTES,
  hasDigests,
  KIND_DATA,
  KIND_ZERO,
  STATE_DIGEST,
  STATE_PARTLY,
  WINDOW_BLOCKS,
  WINDOW_SECTORS,
} from '../model/geometry.js'
import type { WindowTables } from '../model/tables.js'
import { NO_FRAME } from './format.js'
import { getWords, putWords } from './u32-columns.js'

/** Length of both tables of a window together (FORMAT.md §5). */
export function tablesBytes(extents: number, runs: number, digests: number): number {
  return 20 * extents + 12 * runs + DIGEST_BYTES * digests
}

export function encodeTables(tables: WindowTables): Uint8Array {
  const { extents, runs } = tables
  const bytes = new Uint8Array(tablesBytes(extents.count, runs.count, runs.digests.length / DIGEST_BYTES))
  let at = 0
  for (const column of [extents.start, extents.sectors, extents.kind, extents.frame, extents.at]) {
    at = putWords(bytes, at, column)
  }
  for (const column of [runs.first, runs.blocks, runs.state]) at = putWords(bytes, at, column)
  bytes.set(runs.digests, at)
  return bytes
}

/** The tables in `bytes`, which must be as long as the counts say. Nothing in them is checked yet. */
export function decodeTables(bytes: Uint8Array, extentRows: number, runRows: number): WindowTables {
  const column = (index: number) => getWords(bytes, index * 4 * extentRows, extentRows)
  const runColumn = (index: number) => getWords(bytes, 20 * extentRows + index * 4 * runRows, runRows)
  return {
    extents: {
      count: extentRows,
      start: column(0),
      sectors: column(1),
      kind: column(2),
      frame: column(3),
      at: column(4),
    },
    runs: {
      count: runRows,
      first: runColumn(0),
      blocks: runColumn(1),
      state: runColumn(2),
      digests: bytes.subarray(20 * extentRows + 12 * runRows),
    },
  }
}

/** What tables are held against: the store's size in sectors and blocks from the window's start, and the frames. */
export interface TableLimits {
  readonly sectors: number
  readonly blocks: number
  /** Sectors of content in a frame; 0 for what is no payload frame. */
  frameSectors(frame: number): number
}

/** Every rule of FORMAT.md §4 for one window; returns what disagrees, or undefined. */
export function tablesDefect(tables: WindowTables, limits: TableLimits): string | undefined {
  return extentsDefect(tables, limits) ?? runsDefect(tables, limits) ?? coverageDefect(tables)
}

function extentsDefect({ extents }: WindowTables, limits: TableLimits): string | undefined {
  const { start, sectors, kind, frame, at } = extents
  const limit = Math.min(limits.sectors, WINDOW_SECTORS)
  let end = 0
  for (let row = 0; row < extents.count; row += 1) {
    const first = start[row] ?? 0
    const length = sectors[row] ?? 0
    if (first < end) return `extent ${row} begins before the end of the one before it`
    end = first + length
    if (length === 0) return `extent ${row} is empty`
    if (end > limit) return `extent ${row} ends past the end of its window or store`
    if (kind[row] === KIND_DATA) {
      const content = limits.frameSectors(frame[row] ?? NO_FRAME)
      if (content === 0) return `extent ${row} names frame ${frame[row]}, which holds no content`
      if ((at[row] ?? 0) + length > content) return `extent ${row} ends past the content of its frame`
    } else if (kind[row] === KIND_ZERO) {
      if (frame[row] !== NO_FRAME || at[row] !== 0) return `zero extent ${row} names content`
    } else return `extent ${row} is of unknown kind ${kind[row]}`
  }
  return undefined
}

function runsDefect({ runs }: WindowTables, limits: TableLimits): string | undefined {
  const { first, blocks, state } = runs
  const limit = Math.min(limits.blocks, WINDOW_BLOCKS)
  let end = 0
  let known = 0
  for (let row = 0; row < runs.count; row += 1) {
    const start = first[row] ?? 0
    const length = blocks[row] ?? 0
    const kind = state[row] ?? 0
    if (start < end) return `digest run ${row} begins before the end of the one before it`
    end = start + length
    if (length === 0) return `digest run ${row} is empty`
    if (end > limit) return `digest run ${row} ends past the end of its window or store`
    if (kind < STATE_DIGEST || kind > STATE_PARTLY) return `digest run ${row} is of unknown state ${kind}`
    if (hasDigests(kind)) known += length
  }
  if (known * DIGEST_BYTES !== runs.digests.length) {
    return `the digest runs ask for ${known} digests, there are ${runs.digests.length / DIGEST_BYTES}`
  }
  return undefined
}

/** Every touched digest block is in a run, and no other is. */
function coverageDefect({ extents, runs }: WindowTables): string | undefined {
  const touched = new Uint8Array(WINDOW_BLOCKS)
  const sectorsPerBlock = WINDOW_SECTORS / WINDOW_BLOCKS
  let blocks = 0
  for (let row = 0; row < extents.count; row += 1) {
    const start = extents.start[row] ?? 0
    const first = Math.floor(start / sectorsPerBlock)
    const last = Math.floor((start + (extents.sectors[row] ?? 0) - 1) / sectorsPerBlock)
    for (let block = first; block <= last; block += 1) {
      if (touched[block] === 0) blocks += 1
      touched[block] = 1
    }
  }
  for (let row = 0; row < runs.count; row += 1) {
    const first = runs.first[row] ?? 0
    const end = first + (runs.blocks[row] ?? 0)
    for (let block = first; block < end; block += 1) {
      if (touched[block] !== 1) return `block ${block} has a digest and no extent touches it`
      blocks -= 1
    }
  }
  return blocks === 0 ? undefined : `${blocks} touched blocks have no digest`
}
