import type { FoldedStoreWriter } from '../../archive/folded-store-writer.js'
import { WindowBuilder } from '../../archive/window-builder.js'
import type { DigestWindow } from '../../model/digest-window.js'
import type { ExtentMap } from '../../model/extent-map.js'
import {
  DIGEST_BLOCK_BYTES,
  DIGEST_BYTES,
  hasDigests,
  KIND_DATA,
  KIND_ZERO,
  SECTOR_BYTES,
  STATE_NONE,
  STATE_PARTLY,
} from '../../model/geometry.js'
import { archiveAt, type ChainArchive, type StoreChain } from '../chain-reader.js'
import type { ReadEnvironment } from '../environment.js'
import { FrameMemory } from '../frame-memory.js'
import { ordered } from '../ordered.js'
import { type Cut, Cuts } from './cuts.js'
import { LiveFrames } from './live-frames.js'
import { STORED_BYTES, StoredMemory } from './stored-memory.js'

export interface FoldStoreInput {
  readonly environment: ReadEnvironment
  /** The members' archives, newest first: what they hold is merged, the newest winning. */
  readonly chain: StoreChain
  readonly writer: FoldedStoreWriter
  readonly level: number
  readonly signal: AbortSignal
  readonly onBytes: (bytes: number) => void
}

const BLOCK_SECTORS = DIGEST_BLOCK_BYTES / SECTOR_BYTES

/** Frames that follow each other in an archive, and are read at once. */
interface Copy {
  readonly archive: ChainArchive
  readonly index: number
  readonly first: number
  count: number
  bytes: number
}

type Step =
  | ({ readonly type: 'copy' } & Readonly<Copy>)
  | ({ readonly type: 'cut' } & Readonly<Cut>)
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
  const stored = new StoredMemory()
  const steps = new Merge(input, await LiveFrames.count(input.chain, signal)).steps()
  const run = async (step: Step): Promise<{ step: Step; made: readonly Made[] }> => {
    if (step.type === 'copy') return { step, made: await readFrames(step, stored) }
    if (step.type === 'window') return { step, made: [] }
    const output = memory.take()
    const [cut] = await pool.run('recutFrame', [{ output, sources: step.sources, level: input.level }], step.bytes)
    if (cut === undefined) throw new RangeError('a job has no result')
    const consumed = (): void => memory.give(output)
    return { step, made: [{ frame: new Uint8Array(output, 0, cut.frameBytes), contentBytes: cut.contentBytes, consumed }] }
  }
  const options = { budget, bytesOf: ({ bytes }: Step) => bytes, signal, maxJobs: pool.workers * 8 }
  for await (const { step, made } of ordered(steps, run, options)) {
    for (const frame of made) await writer.addFrame(frame)
    if (step.type === 'window') await writer.addWindow(step.window, step.builder.tables(), step.frames)
    input.onBytes(made.reduce((sum, { frame }) => sum + frame.length, 0))
  }
}

/** The memory of all of them is given back when the last one was written. */
async function readFrames({ archive, first, count, bytes }: Copy, memory: StoredMemory): Promise<readonly Made[]> {
  const { frames } = archive.reader
  const into = memory.take(bytes)
  let unwritten = count
  const consumed = (): void => {
    unwritten -= 1
    if (unwritten === 0) memory.give(into)
  }
  const read = await archive.reader.storedFrames(first, count, into)
  return read.map((frame, i) => ({ frame, contentBytes: frames.contentBytes(first + i), consumed }))
}

/** What stands for the count of a frame that will be copied, until it is its turn. */
const PLANNED = 0xffff_ffff

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
      const cuts = new Cuts(chain)
      for (let row = 0; row < map.count; row += 1) if (fates[row] === true) cuts.add(map, row)
      yield* this.#mixed(this.#copies(map, fates), cuts.plan())
      const builder = this.#tables(window, map, digests, fates, cuts)
      if (builder !== undefined) yield { type: 'window', window, builder, frames: this.#frames, bytes: 0 }
    }
  }

  #isCut(map: ExtentMap, row: number): boolean {
    if (map.kind[row] !== KIND_DATA) return false
    return this.#live.fate(map.archive[row] ?? 0, map.frame[row] ?? 0) === 'cut'
  }

  /** Copies and cuts by turns, so that those who cut have work all the time; each gets its count as it comes. */
  *#mixed(copies: readonly Copy[], cuts: readonly Cut[]): Generator<Step> {
    let cutsDone = 0
    for (const [copiesDone, copy] of copies.entries()) {
      for (; cutsDone * copies.length < (copiesDone + 1) * cuts.length; cutsDone += 1) yield* this.#cut(cuts[cutsDone])
      const numbers = this.#copied[copy.index]
      for (let frame = copy.first; frame < copy.first + copy.count; frame += 1) {
        this.#frames += 1
        if (numbers !== undefined) numbers[frame] = this.#frames
      }
      yield { type: 'copy', ...copy }
    }
    for (; cutsDone < cuts.length; cutsDone += 1) yield* this.#cut(cuts[cutsDone])
  }

  *#cut(cut: Cut | undefined): Generator<Step> {
    if (cut === undefined) return
    cut.frame = this.#frames
    this.#frames += 1
    yield { type: 'cut', ...cut }
  }

  /** The frames of a window that are copied and were not copied for an earlier one. */
  #copies(map: ExtentMap, fates: readonly boolean[]): readonly Copy[] {
    const copies: Copy[] = []
    let open: Copy | undefined
    for (let row = 0; row < map.count; row += 1) {
      if (map.kind[row] !== KIND_DATA || fates[row] === true) continue
      const index = map.archive[row] ?? 0
      const frame = map.frame[row] ?? 0
      const copied = this.#copied[index]
      const archive = archiveAt(this.#input.chain, index)
      if (copied === undefined) throw new RangeError(`archive ${index} has no frames`)
      if (copied[frame] !== 0) continue
      copied[frame] = PLANNED
      const bytes = archive.reader.frames.storedBytes(frame)
      const follows = open !== undefined && open.index === index && open.first + open.count === frame
      if (open !== undefined && follows && open.bytes + bytes <= STORED_BYTES) {
        open.count += 1
        open.bytes += bytes
        continue
      }
      open = { archive, index, first: frame, count: 1, bytes }
      copies.push(open)
    }
    return copies
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
    const state = stateOf(digests, block)
    const first = block
    while (block + 1 < digests.blocks && touched[block + 1] === 1 && stateOf(digests, block + 1) === state) block += 1
    const known = hasDigests(state)
    const bytes = known ? digests.digests.subarray(first * DIGEST_BYTES, (block + 1) * DIGEST_BYTES) : new Uint8Array(0)
    builder.addRun(first, block + 1 - first, state, bytes)
  }
}

/**
 * As the members' newest entry says. What was stored in part stays so even if all of its parts are in one archive now:
 * putting them together proves nothing about what the tracker did not name.
 */
function stateOf(digests: DigestWindow, block: number): number {
  return digests.partly[block] === 1 ? STATE_PARTLY : (digests.state[block] ?? STATE_NONE)
}
