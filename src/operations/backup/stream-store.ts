import type { StoreTotals, StoreWriter } from '../../archive/store-writer.js'
import { ContentSum } from '../../archive/content-sum.js'
import type { Extent, Range } from '../../model/extent.js'
import { blockCount, STATE_DIGEST, STATE_UNKNOWN, WINDOW_BLOCKS } from '../../model/geometry.js'
import type { StoreRecord } from '../../model/manifest.js'
import type { MissedBlocks } from '../../model/missed-blocks.js'
import type { StorePlan } from '../../model/planner.js'
import { mergeRanges, sizeChangeRanges } from '../../model/ranges.js'
import type { CheckpointStore } from '../../trackers/tracker.js'
import { ClaimCheck } from '../audit/claim-check.js'
import { TouchedBlocks } from '../audit/touched-blocks.js'
import type { ByteBudget } from '../byte-budget.js'
import type { StoreChain } from '../chain-reader.js'
import { grouped, ordered } from '../ordered.js'
import type { TaskPool } from '../pool.js'
import type { ReadJob } from '../tasks/read-chunk.js'
import { FrameMemory } from '../frame-memory.js'
import { JobBuilder } from './jobs.js'
import { ParentDigests } from './parent-digests.js'
import { exactPieces, type Piece, wholeBlockPieces } from './pieces.js'

export interface StreamStoreInput {
  readonly store: CheckpointStore
  readonly plan: StorePlan
  /** The store in the parent point; undefined for a full. */
  readonly before: StoreRecord | undefined
  readonly openParent: () => Promise<StoreChain>
  /** What the tracker said; undefined unless the plan says tracked. */
  readonly changed: AsyncIterable<readonly Range[]> | undefined
  /** What a tracker said whose word is not taken: the store is compared, and its answer held against what is found. */
  readonly claimed: AsyncIterable<readonly Range[]> | undefined
  readonly writer: StoreWriter
  readonly pool: TaskPool
  readonly budget: ByteBudget
  readonly level: number
  readonly sourceKey: string
  readonly signal: AbortSignal
  readonly onRead: (bytes: number) => void
}

export interface StreamedStore {
  readonly totals: StoreTotals
  readonly contentSum: string | null
  readonly readBytes: number
  /** Digest blocks that were named or read, and dropped because the parent has them. */
  readonly equalBlocks: number
  /** What the tracker missed; undefined where it was not asked, or its word taken. */
  readonly missed: MissedBlocks | undefined
}

/** A job holds its blocks and the frame made of them. */
const JOB_BYTES = 2 * 1024 * 1024 + 65_536
const JOBS_PER_MESSAGE = 4
/** Smaller frames are copied, so that hundreds that wait for their member do not hold a mebibyte each. */
const SMALL_FRAME_BYTES = 256 * 1024

/** Reads one store's part of a point through the workers into the archive. */
export async function streamStore(input: StreamStoreInput): Promise<StreamedStore> {
  const { store, plan, before, writer, pool, budget, level, signal } = input
  const forced = before === undefined ? [] : sizeChangeRanges(before.sizeBytes, store.sizeBytes)
  const parent = plan.mode === 'full' ? undefined : new ParentDigests(input.openParent, forced)
  const claim =
    parent === undefined || input.claimed === undefined
      ? undefined
      : new ClaimCheck(
          await TouchedBlocks.of(input.claimed, store.sizeBytes),
          new ParentDigests(input.openParent, forced),
        )
  const frames = new FrameMemory()
  const builder = new JobBuilder({ source: store.source, sourceKey: input.sourceKey, level, parent, frames })
  const sum = new ContentSum()
  if (before?.contentSum != null && parent !== undefined) sum.addHex(before.contentSum)
  let sumKnown = parent === undefined || before?.contentSum != null
  let readBytes = 0
  let equalBlocks = 0
  const groups = grouped(builder.jobs(pieces(input, forced)), JOBS_PER_MESSAGE)
  const run = async (jobs: ReadJob[]) => {
    const results = await pool.run('readChunk', jobs, (jobs.length * JOB_BYTES) / 2)
    return jobs.map((job, i) => ({ output: job.output, chunk: results[i] }))
  }
  const chunks = ordered(groups, run, {
    budget,
    bytesOf: (jobs) => jobs.length * JOB_BYTES,
    signal,
    maxJobs: pool.workers * 2,
  })
  for await (const group of chunks) {
    for (const { output, chunk } of group) {
      if (chunk === undefined) throw new RangeError('a job has no result')
      if (chunk.sumChange === null) sumKnown = false
      else sum.addHex(chunk.sumChange)
      readBytes += chunk.readBytes
      equalBlocks += chunk.equalBlocks
      input.onRead(chunk.readBytes)
      await claim?.judge(chunk)
      const inPlace = chunk.frameBytes >= SMALL_FRAME_BYTES
      const shared = new Uint8Array(output, 0, chunk.frameBytes)
      const frame = chunk.frameBytes === 0 ? null : inPlace ? shared : shared.slice()
      if (!inPlace) frames.give(output)
      if (chunk.runs.length > 0) await writer.append({ ...chunk, frame }, inPlace ? () => frames.give(output) : undefined)
    }
  }
  if (!builder.zeroSumKnown) sumKnown = false
  sum.addHex(builder.zeroSum.toHex())
  if (parent !== undefined && before !== undefined) {
    sumKnown = (await forgetTail(sum, parent, before.sizeBytes, store.sizeBytes)) && sumKnown
  }
  const contentSum = sumKnown ? sum.toHex() : null
  return { totals: await writer.finish(contentSum), contentSum, readBytes, equalBlocks, missed: claim?.missed }
}

function pieces(input: StreamStoreInput, forced: readonly Range[]): AsyncIterable<Piece> {
  const { store, plan, changed, signal } = input
  if (plan.mode !== 'tracked') {
    const all = flatten(store.allocatedExtents({ offset: 0, length: store.sizeBytes }, { signal }))
    return wholeBlockPieces(all, store.sizeBytes)
  }
  if (changed === undefined) throw new RangeError(`store '${store.name}' is to be tracked and nobody asked its tracker`)
  return exactPieces(allocatedWithin(store, mergeRanges(changed, forced, store.sizeBytes), signal), store.sizeBytes)
}

async function* allocatedWithin(
  store: CheckpointStore,
  ranges: AsyncIterable<Range>,
  signal: AbortSignal,
): AsyncGenerator<Extent> {
  for await (const range of ranges) yield* flatten(store.allocatedExtents(range, { signal }))
}

async function* flatten(pages: AsyncIterable<readonly Extent[]>): AsyncGenerator<Extent> {
  for await (const page of pages) yield* page
}

/** Where the store shrank, the blocks past its new end leave the sum; false when one of them was unknown. */
async function forgetTail(
  sum: ContentSum,
  parent: ParentDigests,
  oldBytes: number,
  newBytes: number,
): Promise<boolean> {
  let known = true
  for (let block = blockCount(newBytes); block < blockCount(oldBytes); block++) {
    const window = await parent.windowOf(block)
    const state = window.state[block % WINDOW_BLOCKS]
    if (state === STATE_DIGEST) sum.subtract(block, window.digest(block % WINDOW_BLOCKS))
    if (state === STATE_UNKNOWN) known = false
  }
  return known
}
