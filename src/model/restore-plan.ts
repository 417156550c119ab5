import type { DigestWindow } from './digest-window.js'
import type { ExtentMap } from './extent-map.js'
import {
  DIGEST_BLOCK_BYTES,
  DIGEST_BYTES,
  KIND_DATA,
  SECTOR_BYTES,
  STATE_DIGEST,
  STATE_NONE,
  STATE_UNKNOWN,
  STATE_ZERO,
} from './geometry.js'

/*
 * How one window is put together and proven.
 *
 * Most digest blocks come whole out of one frame: they are checked in the worker that decodes it, on the way. A block
 * put together from several frames is *mixed*: its pieces are written first, and it is checked by reading it back.
 *
 *   digest entry   no data in the map      whole from one frame     mixed
 *   digest         problem: lost content   checked on the way       checked by reading back
 *   zero           nothing to do           must be zeroes           must be zeroes
 *   unknown        -                       not checked, counted     not checked, counted
 *   none           nothing to do           problem: no digest       problem: no digest
 */

/** What to take from one frame. Numbers are bytes; `writes` and `checks` are rows of three. */
export interface FrameTask {
  /** Index of the archive in the chain, newest 0. */
  readonly archive: number
  readonly frame: number
  /** Rows: where in the content, length, where on the store. */
  readonly writes: Float64Array
  /** Rows: where in the content, length, digest block (absolute). */
  readonly checks: Float64Array
  /** 16 bytes a row of `checks`; all zero bytes mean that the block must be zeroes. */
  readonly expected: Uint8Array
}

/** A digest block to check by reading it back. */
export interface MixedBlock {
  readonly block: number
  readonly lengthBytes: number
  readonly expected: Uint8Array
}

export interface WindowPlan {
  /** Oldest archive first, and each archive's frames forward. Lazy. */
  readonly frames: Iterable<FrameTask>
  readonly mixed: readonly MixedBlock[]
  /** Digest blocks that could not be checked because their digest is unknown. */
  readonly unknownBlocks: number
  /** Digest blocks (absolute) whose tables contradict each other, and how. */
  readonly problems: readonly { readonly block: number; readonly what: string }[]
}

export interface WindowPlanInput {
  readonly map: ExtentMap
  readonly digests: DigestWindow
  /** Bytes: where the window begins on the store, and where the store ends. */
  readonly windowOffset: number
  readonly sizeBytes: number
  /** Only these blocks of the window are checked, and only what a check needs is written: for verify. */
  readonly only?: Uint8Array
}

const BLOCK_SECTORS = DIGEST_BLOCK_BYTES / SECTOR_BYTES
const NONE = 0
const WHOLE = 1
const MIXED = 2
const ALL_ZERO = new Uint8Array(DIGEST_BYTES)

/** Plans one window. Pure; time linear in rows and blocks. */
export function planWindow(input: WindowPlanInput): WindowPlan {
  const { map, digests, windowOffset, sizeBytes, only } = input
  const segments = joinRows(map)
  const kinds = blockKinds(segments, map.sectors, digests.blocks)
  const firstBlock = windowOffset / DIGEST_BLOCK_BYTES
  const mixed: MixedBlock[] = []
  const problems: { block: number; what: string }[] = []
  let unknownBlocks = 0
  for (let block = 0; block < digests.blocks; block++) {
    if (only !== undefined && only[block] !== 1) continue
    const kind = kinds[block]
    const state = digests.state[block]
    if (state === STATE_UNKNOWN) unknownBlocks++
    if (state === STATE_NONE && kind !== NONE)
      problems.push({ block: firstBlock + block, what: 'has content but no digest' })
    if (state === STATE_DIGEST && kind === NONE)
      problems.push({ block: firstBlock + block, what: 'has a digest but no content' })
    if (kind === MIXED && (state === STATE_DIGEST || state === STATE_ZERO)) {
      const offset = windowOffset + block * DIGEST_BLOCK_BYTES
      mixed.push({
        block: firstBlock + block,
        lengthBytes: Math.min(DIGEST_BLOCK_BYTES, sizeBytes - offset),
        expected: state === STATE_DIGEST ? digests.digest(block) : ALL_ZERO,
      })
    }
  }
  return { frames: frameTasks(input, segments, kinds), mixed, unknownBlocks, problems }
}

/** Data rows that follow each other on the store and in one frame, joined. Columns, to stay cheap at 100,000s. */
interface Segments {
  readonly count: number
  readonly start: Uint32Array
  readonly length: Uint32Array
  readonly row: Uint32Array
}

function joinRows(map: ExtentMap): Segments {
  const start = new Uint32Array(map.count)
  const length = new Uint32Array(map.count)
  const row = new Uint32Array(map.count)
  let count = 0
  for (let i = 0; i < map.count; i++) {
    if (map.kind[i] !== KIND_DATA) continue
    const previous = count === 0 ? -1 : (row[count - 1] ?? 0)
    const from = map.start[i] ?? 0
    const joined = previous >= 0 ? (length[count - 1] ?? 0) : 0
    if (
      previous >= 0 &&
      (start[count - 1] ?? 0) + joined === from &&
      map.archive[previous] === map.archive[i] &&
      map.frame[previous] === map.frame[i] &&
      (map.at[previous] ?? 0) + joined === map.at[i]
    ) {
      length[count - 1] = joined + (map.length[i] ?? 0)
      continue
    }
    start[count] = from
    length[count] = map.length[i] ?? 0
    row[count++] = i
  }
  return { count, start, length, row }
}

function blockKinds(segments: Segments, windowSectors: number, blocks: number): Uint8Array {
  const kinds = new Uint8Array(blocks)
  for (let i = 0; i < segments.count; i++) {
    const from = segments.start[i] ?? 0
    const end = from + (segments.length[i] ?? 0)
    const firstTouched = Math.floor(from / BLOCK_SECTORS)
    const lastTouched = Math.floor((end - 1) / BLOCK_SECTORS)
    for (let block = firstTouched; block <= lastTouched; block++) {
      const blockEnd = Math.min((block + 1) * BLOCK_SECTORS, windowSectors)
      kinds[block] = from <= block * BLOCK_SECTORS && end >= blockEnd ? WHOLE : MIXED
    }
  }
  return kinds
}

function* frameTasks(input: WindowPlanInput, segments: Segments, kinds: Uint8Array): Generator<FrameTask> {
  const { map } = input
  for (const order of segmentsByArchive(map, segments)) {
    let from = 0
    while (from < order.length) {
      const row = segments.row[order[from] ?? 0] ?? 0
      const frame = map.frame[row] ?? 0
      let to = from + 1
      while (to < order.length && map.frame[segments.row[order[to] ?? 0] ?? 0] === frame) to++
      const task = frameTask(input, segments, kinds, order.subarray(from, to), map.archive[row] ?? 0, frame)
      if (task.writes.length > 0 || task.checks.length > 0) yield task
      from = to
    }
  }
}

/**
 * Segment indexes by archive, oldest archive first, and within each by frame and then in store order: a folded archive has
 * what belongs to one frame spread over the store, and no frame is to be decoded twice.
 */
function segmentsByArchive(map: ExtentMap, segments: Segments): Uint32Array[] {
  const counts = new Map<number, number>()
  for (let i = 0; i < segments.count; i++) {
    const archive = map.archive[segments.row[i] ?? 0] ?? 0
    counts.set(archive, (counts.get(archive) ?? 0) + 1)
  }
  const lists = new Map<number, { readonly list: Uint32Array; used: number }>()
  for (const [archive, count] of counts) lists.set(archive, { list: new Uint32Array(count), used: 0 })
  for (let i = 0; i < segments.count; i++) {
    const entry = lists.get(map.archive[segments.row[i] ?? 0] ?? 0)
    if (entry !== undefined) entry.list[entry.used++] = i
  }
  const frameOf = (segment: number): number => map.frame[segments.row[segment] ?? 0] ?? 0
  for (const { list } of lists.values()) {
    if (list.some((segment, i) => i > 0 && frameOf(segment) < frameOf(list[i - 1] ?? 0))) {
      list.sort((a, b) => frameOf(a) - frameOf(b) || a - b)
    }
  }
  return [...lists.entries()].sort(([a], [b]) => b - a).map(([, entry]) => entry.list)
}

function frameTask(
  input: WindowPlanInput,
  segments: Segments,
  kinds: Uint8Array,
  members: Uint32Array,
  archive: number,
  frame: number,
): FrameTask {
  const { map, digests, windowOffset, sizeBytes, only } = input
  const firstBlock = windowOffset / DIGEST_BLOCK_BYTES
  const writes: number[] = []
  const checks: number[] = []
  const expected: Uint8Array[] = []
  for (const i of members) {
    const start = segments.start[i] ?? 0
    const end = start + (segments.length[i] ?? 0)
    const at = (map.at[segments.row[i] ?? 0] ?? 0) * SECTOR_BYTES
    if (only === undefined) pushWrite(writes, at, start, end, windowOffset, sizeBytes)
    for (let block = Math.floor(start / BLOCK_SECTORS); block * BLOCK_SECTORS < end; block++) {
      if (only !== undefined && only[block] !== 1) continue
      const blockStart = block * BLOCK_SECTORS
      if (kinds[block] === WHOLE) {
        const state = digests.state[block]
        if (state !== STATE_DIGEST && state !== STATE_ZERO) continue
        const offset = windowOffset + blockStart * SECTOR_BYTES
        checks.push(
          at + (blockStart - start) * SECTOR_BYTES,
          Math.min(DIGEST_BLOCK_BYTES, sizeBytes - offset),
          firstBlock + block,
        )
        expected.push(state === STATE_DIGEST ? digests.digest(block) : ALL_ZERO)
      } else if (only !== undefined) {
        const from = Math.max(start, blockStart)
        const to = Math.min(end, blockStart + BLOCK_SECTORS)
        pushWrite(writes, at + (from - start) * SECTOR_BYTES, from, to, windowOffset, sizeBytes)
      }
    }
  }
  const flat = new Uint8Array(expected.length * DIGEST_BYTES)
  expected.forEach((digest, i) => flat.set(digest, i * DIGEST_BYTES))
  return { archive, frame, writes: Float64Array.from(writes), checks: Float64Array.from(checks), expected: flat }
}

function pushWrite(
  writes: number[],
  at: number,
  start: number,
  end: number,
  windowOffset: number,
  sizeBytes: number,
): void {
  const offset = windowOffset + start * SECTOR_BYTES
  writes.push(at, Math.min((end - start) * SECTOR_BYTES, sizeBytes - offset), offset)
}

/** The ranges of a window that no data covers, in bytes on the store: what an existing target must get as zeroes. */
export function zeroRanges(
  map: ExtentMap,
  windowOffset: number,
  sizeBytes: number,
): { offset: number; length: number }[] {
  const ranges: { offset: number; length: number }[] = []
  let from = 0
  const add = (to: number): void => {
    if (to <= from) return
    const offset = windowOffset + from * SECTOR_BYTES
    ranges.push({ offset, length: Math.min((to - from) * SECTOR_BYTES, sizeBytes - offset) })
  }
  for (let i = 0; i < map.count; i++) {
    if (map.kind[i] !== KIND_DATA) continue
    const start = map.start[i] ?? 0
    add(start)
    from = start + (map.length[i] ?? 0)
  }
  add(map.sectors)
  return ranges
}
