import type { FoldedStoreWriter } from '../../archive/folded-store-writer.js'
import { WindowBuilder } from '../../archive/window-builder.js'
import type { DigestWindow } from '../../model/digest-window.js'
import type { ExtentMap } from '../../model/extent-map.js'
import {
  DIGEST_BLOCK_BYTES,
  DIGEST_BYTES,
  FRAME_CONTENT_BYTES,
  KIND_DATA,
  KIND_ZERO,
  SECTOR_BYTES,
  STATE_DIGEST,
  STATE_NONE,
} from '../../model/geometry.js'
import type { ChainArchive, StoreChain } from '../chain-reader.js'
import type { ReadEnvironment } from '../environment.js'
import { FrameMemory } from '../frame-memory.js'
import { ordered } from '../ordered.js'
import type { RecutSource } from '../tasks/recut-frame.js'
import { LiveFrames } from './live-frames.js'

export interface FoldStoreInput {
  readonly environment: ReadEnvironment
  /** The members' archives, newest first: what they hold is merged, the newest winning. */
  readonly chain: StoreChain
  readonly writer: FoldedStoreWriter
  readonly level: number
  readonly signal: AbortSignal
  readonly onBytes: (bytes: number) => void
}

/** Frames that follow each other in an archive are read at once, up to so many stored bytes. */
const READ_BYTES = 2 * 1024 * 1024
const BLOCK_SECTORS = DIGEST_BLOCK_BYTES / SECTOR_BYTES

type Step =
  | { readonly type: 'copy'; readonly archive: ChainArchive; readonly first: number; readonly count: number; readonly bytes: number }
  | { readonly type: 'cut'; readonly sources: readonly RecutSource[]; readonly bytes: number }
  | { readonly type: 'window'; readonly window: number; readonly builder: WindowBuilder; readonly frames: number; readonly bytes: 0 }

/** One frame for the writer. */
interface Made {
  readonly frame: Uint8Array
  readonly contentBytes: number
  readonly consumed?: () => void
}

/**
 * Merges one store of several archives into one, window by window: frames are copied as they are stored, only the
 * deadest and the smallest are cut anew. Costs the tables of all members, and the bytes that are written.
 */
export async function foldStore(input: FoldStoreInput): Promise<void> {
  const { environment, writer, signal } = input
  const { pool, budget } = environment
  const memory = new FrameMemory()
  const steps = new Merge(input, await LiveFrames.count(input.chain, signal)).steps()
  const run = async (step: Step): Promise<{ step: Step; made: readonly Made[] }> => {
    if (step.type === 'copy') {
      const { frames } = step.archive.reader
      const stored = await step.archive.reader.storedFrames(step.first, step.count)
      const made = stored.map((frame, i) => ({ frame, contentBytes: frames.contentBytes(step.first + i) }))
      return { step, made }
    }
    if (step.type === 'window') return { step, made: [] }
    const output = memory.take()
    const [cut] = await pool.run('recutFrame', [{ output, sources: step.sources, level: input.level }], step.bytes)
    if (cut === undefined) throw new RangeError('a job has no result')
    const consumed = (): void => memory.give(output)
    return { step, made: [{ frame: new Uint8Array(output, 0, cut.frameBytes), contentBytes: cut.contentBytes, consumed }] }
  }
  const options = { budget, bytesOf: ({ bytes }: Step) => bytes, signal, maxJobs: pool.workers * 4 }
  for await (const { step, made } of ordered(steps, run, options)) {
    for (const frame of made) await writer.addFrame(frame)
    if (step.type === 'window') await writer.addWindow(step.window, step.builder.tables(), step.frames)
    input.onBytes(made.reduce((sum, { frame }) => sum + frame.length, 0))
  }
}

/** Decides, window by window, which frames are made and how the new tables name them. */
class Merge {
  readonly #input: FoldStoreInput
  readonly #live: LiveFrames
  /** The new count of each copied frame, plus one, by archive and frame; 0 while it has none. */
  readonly #copied: readonly Uint32Array[]
  #frames = 0

  constructor(input: FoldStoreInput, live: LiveFrames) {
    this.#input = input
    this.#live = live
    this.#copied = input.chain.archives.map(({ reader }) => new Uint32Array(reader.frames.count))
  }

  async *steps(): AsyncGenerator<Step> {
    const { chain, signal } = this.#input
    for (const window of chain.windows()) {
      signal.throwIfAborted()
      const { map, digests } = await chain.window(window)
      const fates = Array.from({ length: map.count }, (_, row) => this.#isCut(map, row))
      yield* this.#copies(map, fates)
      const cuts = new Cuts(chain, this.#frames)
      for (let row = 0; row < map.count; row += 1) if (fates[row] === true) cuts.add(map, row)
      yield* cuts.jobs()
      this.#frames += cuts.frames
      const builder = this.#tables(window, map, digests, fates, cuts)
      if (builder !== undefined) yield { type: 'window', window, builder, frames: this.#frames, bytes: 0 }
    }
  }

  #isCut(map: ExtentMap, row: number): boolean {
    if (map.kind[row] !== KIND_DATA) return false
    return this.#live.fate(map.archive[row] ?? 0, map.frame[row] ?? 0) === 'cut'
  }

  /** The frames of a window that are copied and were not copied for an earlier one. */
  *#copies(map: ExtentMap, fates: readonly boolean[]): Generator<Step> {
    let open: { archive: ChainArchive; index: number; first: number; count: number; bytes: number } | undefined
    for (let row = 0; row < map.count; row += 1) {
      if (map.kind[row] !== KIND_DATA || fates[row] === true) continue
      const index = map.archive[row] ?? 0
      const frame = map.frame[row] ?? 0
      const copied = this.#copied[index]
      const archive = this.#input.chain.archives[index]
      if (copied === undefined || archive === undefined) throw new RangeError(`archive ${index} is not in the chain`)
      if (copied[frame] !== 0) continue
      copied[frame] = ++this.#frames
      const bytes = archive.reader.frames.storedBytes(frame)
      if (open !== undefined && open.index === index && open.first + open.count === frame && open.bytes + bytes <= READ_BYTES) {
        open.count += 1
        open.bytes += bytes
        continue
      }
      if (open !== undefined) yield { type: 'copy', ...open }
      open = { archive, index, first: frame, count: 1, bytes }
    }
    if (open !== undefined) yield { type: 'copy', ...open }
  }

  #tables(
    window: number,
    map: ExtentMap,
    digests: DigestWindow,
    fates: readonly boolean[],
    cuts: Cuts,
  ): WindowBuilder | undefined {
    const builder = new WindowBuilder(window)
    const touched = new Uint8Array(digests.blocks)
    for (let row = 0; row < map.count; row += 1) {
      const start = map.start[row] ?? 0
      const length = map.length[row] ?? 0
      if (map.kind[row] === KIND_ZERO) {
        builder.addExtent(start, length, KIND_ZERO, 0, 0)
      } else {
        const copied = this.#copied[map.archive[row] ?? 0]?.[map.frame[row] ?? 0] ?? 0
        const [frame, at] = fates[row] === true ? cuts.placeOf(row) : [copied - 1, map.at[row] ?? 0]
        builder.addExtent(start, length, KIND_DATA, frame, at)
      }
      touched.fill(1, Math.floor(start / BLOCK_SECTORS), Math.ceil((start + length) / BLOCK_SECTORS))
    }
    addRuns(builder, digests, touched)
    return touched.includes(1) ? builder : undefined
  }
}

/** The digests of all touched blocks, in the fewest runs. */
function addRuns(builder: WindowBuilder, digests: DigestWindow, touched: Uint8Array): void {
  for (let block = 0; block < digests.blocks; block += 1) {
    if (touched[block] === 0) continue
    const state = digests.state[block] ?? STATE_NONE
    const first = block
    while (block + 1 < digests.blocks && touched[block + 1] === 1 && digests.state[block + 1] === state) block += 1
    const known = state === STATE_DIGEST
    const bytes = known ? digests.digests.subarray(first * DIGEST_BYTES, (block + 1) * DIGEST_BYTES) : new Uint8Array(0)
    builder.addRun(first, block + 1 - first, state, bytes)
  }
}

/** The rows of one window whose content is cut out of its frames; content of one old frame stays together. */
class Cuts {
  /** New frames that these rows need; known after `jobs`. */
  frames = 0
  readonly #chain: StoreChain
  readonly #firstFrame: number
  /** Rows by old frame, in the order in which frames are first met. */
  readonly #byFrame = new Map<string, { readonly archive: number; readonly frame: number; readonly rows: number[] }>()
  readonly #lengths = new Map<number, { readonly at: number; readonly sectors: number }>()
  readonly #places = new Map<number, readonly [frame: number, at: number]>()

  constructor(chain: StoreChain, firstFrame: number) {
    this.#chain = chain
    this.#firstFrame = firstFrame
  }

  add(map: ExtentMap, row: number): void {
    const archive = map.archive[row] ?? 0
    const frame = map.frame[row] ?? 0
    const key = `${archive}:${frame}`
    const known = this.#byFrame.get(key)
    if (known === undefined) this.#byFrame.set(key, { archive, frame, rows: [row] })
    else known.rows.push(row)
    this.#lengths.set(row, { at: map.at[row] ?? 0, sectors: map.length[row] ?? 0 })
  }

  /** One job for each new frame. What one old frame still holds is never more than fits into a new one. */
  *jobs(): Generator<Step> {
    const limit = FRAME_CONTENT_BYTES / SECTOR_BYTES
    let sources: RecutSource[] = []
    let used = 0
    const close = (): Step => {
      const bytes = sources.reduce((sum, source) => sum + source.storedBytes + source.contentBytes, 0)
      const job = { type: 'cut', sources, bytes } as const
      sources = []
      used = 0
      this.frames += 1
      return job
    }
    for (const { archive, frame, rows } of this.#byFrame.values()) {
      const sectors = rows.reduce((sum, row) => sum + (this.#lengths.get(row)?.sectors ?? 0), 0)
      if (used > 0 && used + sectors > limit) yield close()
      const pieces = new Float64Array(rows.length * 2)
      for (const [i, row] of rows.entries()) {
        const { at = 0, sectors: length = 0 } = this.#lengths.get(row) ?? {}
        pieces.set([at * SECTOR_BYTES, length * SECTOR_BYTES], i * 2)
        this.#places.set(row, [this.#firstFrame + this.frames, used])
        used += length
      }
      sources.push({ ...this.#stored(archive, frame), pieces })
    }
    if (used > 0) yield close()
  }

  /** Where the content of a row is: the new frame's count, and the sector in its content. */
  placeOf(row: number): readonly [frame: number, at: number] {
    const place = this.#places.get(row)
    if (place === undefined) throw new RangeError(`row ${row} was not cut`)
    return place
  }

  #stored(archive: number, frame: number): Omit<RecutSource, 'pieces'> {
    const source = this.#chain.archives[archive]
    if (source === undefined) throw new RangeError(`archive ${archive} is not in the chain`)
    const { frames } = source.reader
    return {
      archive: source.location,
      offset: frames.offsetOf(frame),
      storedBytes: frames.storedBytes(frame),
      contentBytes: frames.contentBytes(frame),
    }
  }
}
