import type { Range } from '../../model/extent.js'
import {
  blockCount,
  DIGEST_BLOCK_BYTES,
  FRAME_CONTENT_BYTES,
  STATE_DIGEST,
  STATE_ZERO,
  WINDOW_BLOCKS,
} from '../../model/geometry.js'
import { MissedBlocks } from '../../model/missed-blocks.js'
import type { CheckpointStore } from '../../trackers/tracker.js'
import { FrameMemory } from '../frame-memory.js'
import type { ParentDigests } from '../backup/parent-digests.js'
import type { TaskPool } from '../pool.js'
import { PIECE_DATA } from '../tasks/read-chunk.js'
import type { PartsJob } from '../tasks/check-parts.js'
import { HeldParts } from './held-parts.js'
import { NamedRanges } from './named-ranges.js'
import { TouchedBlocks } from './touched-blocks.js'

/*
 * Trackers are audited, not believed: blocks that the tracker called unchanged are read, and their digests compared
 * with the stored ones. The place goes round the store from run to run. The tail is looked at every time, since that is
 * where resizes that nobody noticed show, and so is the last block before it in which the parent holds data: it is the
 * first that a store lost which shrank and grew back. Blocks that the layer now guarantees to be zeroes, where the parent
 * holds data, cost no reading and are as good a proof.
 *
 * A digest proves only what was stored with it. Of a block that the parent stored in part, the digest is that of the whole
 * block as it was on the disk, so it is equal on the disk and the stored digest, even where the tracker kept a change in
 * another part of the block to itself. Such a block is put together from the chain, and the bytes are compared; and so is
 * one of which the tracker names a part now, outside of what it names: it would be stored in part, and a block that is
 * written to in each run would never be looked at else. The frames that this reads are counted as read.
 */

/** How much an audit may read, and how long; `Infinity` for all of it. */
export interface AuditBudget {
  readonly bytes: number
  readonly milliseconds: number
}

export interface AuditInput {
  readonly store: CheckpointStore
  readonly sourceKey: string
  /** Asks the tracker what changed; called as often as its answer is needed. */
  readonly changed: () => Promise<AsyncIterable<readonly Range[]>>
  readonly parent: ParentDigests
  /** Digest block to begin at: where the last audit ended. */
  readonly from: number
  readonly budget: AuditBudget
  readonly pool: TaskPool
  readonly signal: AbortSignal
  readonly onRead?: (bytes: number) => void
}

export interface AuditResult {
  /** Where the next audit goes on. */
  readonly next: number
  readonly checkedBlocks: number
  readonly readBytes: number
  /** Whether every block was checked that the tracker called unchanged. */
  readonly whole: boolean
  readonly missed: MissedBlocks
}

const JOB_BLOCKS = FRAME_CONTENT_BYTES / DIGEST_BLOCK_BYTES
/** Stretches of guaranteed zeroes cost no reading: they are stepped over in strides of this many jobs. */
const STRIDE_JOBS = 16

/**
 * Audits one store within the budget. However small that is, the tail is checked and the place moves on by a mebibyte:
 * so the rotation reaches every block.
 */
export async function auditStore(input: AuditInput): Promise<AuditResult> {
  const { store, budget } = input
  const blocks = blockCount(store.sizeBytes)
  const deadlineMs = performance.now() + budget.milliseconds
  const run = new AuditRun(input, await TouchedBlocks.of(await input.changed(), store.sizeBytes), deadlineMs)
  try {
    return await rotate(input, run, blocks)
  } finally {
    await run.close()
  }
}

async function rotate(input: AuditInput, run: AuditRun, blocks: number): Promise<AuditResult> {
  const { budget } = input
  const start = input.from < blocks ? input.from : 0
  const tail = Math.max(0, blocks - JOB_BLOCKS)
  if (blocks > 0) await run.check(tail, blocks)
  await run.checkLastHeld(tail)
  let at = start
  let wrapped = false
  let whole = blocks === 0
  for (let steps = 0; !whole; steps++) {
    if (steps > 0 && (run.readBytes >= budget.bytes || run.isLate)) break
    const left = Math.max(JOB_BLOCKS, Math.ceil((budget.bytes - run.readBytes) / DIGEST_BLOCK_BYTES))
    const windowEnd = (Math.floor(at / WINDOW_BLOCKS) + 1) * WINDOW_BLOCKS
    const end = Math.min(wrapped ? start : blocks, windowEnd, at + Math.min(JOB_BLOCKS * STRIDE_JOBS, left))
    at = await run.checkWithin(at, end)
    if (at === blocks) {
      at = 0
      wrapped = true
    }
    whole = wrapped && at >= start
  }
  return { next: at, checkedBlocks: run.checked, readBytes: run.readBytes, whole, missed: run.missed }
}

class AuditRun {
  readonly missed = new MissedBlocks()
  readBytes = 0
  checked = 0
  readonly #input: AuditInput
  readonly #touched: TouchedBlocks
  readonly #memory = new FrameMemory()
  /** What the first call checked, the tail: the rotation may come to it too. */
  #tail = { from: 0, end: 0 }
  /** The block that `checkLastHeld` checked. */
  #lastHeld = -1

  readonly #named: NamedRanges
  readonly #deadlineMs: number
  #held: HeldParts | undefined

  constructor(input: AuditInput, touched: TouchedBlocks, deadlineMs: number) {
    this.#input = input
    this.#touched = touched
    this.#named = new NamedRanges(input.changed, input.store.sizeBytes)
    this.#deadlineMs = deadlineMs
  }

  get isLate(): boolean {
    return performance.now() >= this.#deadlineMs
  }

  async close(): Promise<void> {
    await this.#named.close()
  }

  /** Checks the blocks of a range, except those that were checked by the first call. */
  async check(from: number, end: number): Promise<void> {
    await this.#compose(await this.#checkDigests(from, end), Infinity)
  }

  /**
   * The same for a range of one window, but returns where it came to: before the end if blocks had to be put together and
   * that used up the budget, but never at the beginning.
   */
  async checkWithin(from: number, end: number): Promise<number> {
    return (await this.#compose(await this.#checkDigests(from, end), this.#input.budget.bytes)) ?? end
  }

  /** Holds digests against digests; returns the blocks of which that proves nothing. */
  async #checkDigests(from: number, end: number): Promise<readonly number[]> {
    const { parent, signal } = this.#input
    signal.throwIfAborted()
    const zero = await this.#guaranteedZeroes(from, end)
    const toRead: number[] = []
    const toCompose: number[] = []
    for (let block = from; block < end; block++) {
      if ((block >= this.#tail.from && block < this.#tail.end) || block === this.#lastHeld) continue
      // A block that the store's end moved over has another length than its digest was made of.
      if (this.#touched.hasWhole(block) || parent.isForced(block)) continue
      const window = await parent.windowOf(block)
      const index = block % WINDOW_BLOCKS
      const state = window.state[index]
      if (state !== STATE_DIGEST && state !== STATE_ZERO) continue
      const touched = this.#touched.has(block)
      if (touched || (window.partly[index] === 1 && zero[block - from] === 0)) {
        toCompose.push(block)
        continue
      }
      this.checked++
      if (zero[block - from] === 0) toRead.push(block)
      else if (state === STATE_DIGEST) this.missed.add(block)
    }
    if (this.#tail.end === 0) this.#tail = { from, end }
    const jobs: number[][] = []
    for (let i = 0; i < toRead.length; i += JOB_BLOCKS) jobs.push(toRead.slice(i, i + JOB_BLOCKS))
    const outcomes = await Promise.allSettled(jobs.map((job) => this.#compare(job)))
    // Each is waited for: nobody may read on when the checkpoint is gone.
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason
    return toCompose
  }

  /** Compares blocks with what the chain holds of them; returns the first that there was no budget left for. */
  async #compose(blocks: readonly number[], budgetBytes: number): Promise<number | undefined> {
    const { pool, parent, signal } = this.#input
    for (let i = 0; i < blocks.length;) {
      if (i > 0 && budgetBytes < Infinity && (this.readBytes >= budgetBytes || this.isLate)) return blocks[i]
      signal.throwIfAborted()
      this.#held ??= new HeldParts(await parent.chain())
      const jobs: PartsJob[] = []
      while (jobs.length < pool.workers && i < blocks.length) {
        const window = Math.floor((blocks[i] ?? 0) / WINDOW_BLOCKS)
        const part = blocks.slice(i, i + JOB_BLOCKS).filter((block) => Math.floor(block / WINDOW_BLOCKS) === window)
        jobs.push(await this.#partsJob(part, this.#held))
        i += part.length
      }
      const outcomes = await Promise.allSettled(jobs.map((job) => this.#runParts(job)))
      for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason
    }
    return undefined
  }

  async #partsJob(blocks: readonly number[], held: HeldParts): Promise<PartsJob> {
    const { store, sourceKey } = this.#input
    const named: number[] = []
    const [first = 0] = blocks
    if (blocks.some((block) => this.#touched.has(block))) {
      const end = ((blocks.at(-1) ?? first) + 1) * DIGEST_BLOCK_BYTES
      for (const { offset, length } of await this.#named.within(first * DIGEST_BLOCK_BYTES, end)) named.push(offset, length)
    }
    const frames = await held.framesOf(blocks)
    return { source: store.source, sourceKey, blocks, frames, named: Float64Array.from(named) }
  }

  async #runParts(job: PartsJob): Promise<void> {
    const { pool, onRead } = this.#input
    const bytes =
      job.blocks.length * DIGEST_BLOCK_BYTES + job.frames.reduce((sum, { storedBytes }) => sum + storedBytes, 0)
    this.readBytes += bytes
    this.checked += job.blocks.length
    const [result] = await pool.run('checkParts', [job], bytes)
    onRead?.(bytes)
    for (const block of result?.differing ?? []) this.missed.add(block)
  }

  /** Checks the last block before `end` that the parent holds data in, and that the tracker calls unchanged. */
  async checkLastHeld(end: number): Promise<void> {
    const { parent, signal } = this.#input
    for (let window = Math.floor((end - 1) / WINDOW_BLOCKS); window >= 0; window--) {
      signal.throwIfAborted()
      const first = window * WINDOW_BLOCKS
      const { state } = await parent.windowOf(first)
      for (let block = Math.min(end, first + WINDOW_BLOCKS) - 1; block >= first; block--) {
        if (state[block - first] !== STATE_DIGEST || this.#touched.has(block) || parent.isForced(block)) continue
        await this.check(block, block + 1)
        this.#lastHeld = block
        return
      }
    }
  }

  /** One byte a block: 1 where the layer guarantees that all of it reads as zeroes. */
  async #guaranteedZeroes(from: number, end: number): Promise<Uint8Array> {
    const { store, signal } = this.#input
    const offset = from * DIGEST_BLOCK_BYTES
    const length = Math.min(end * DIGEST_BLOCK_BYTES, store.sizeBytes) - offset
    const zero = new Uint8Array(end - from)
    for await (const page of store.allocatedExtents({ offset, length }, { signal })) {
      for (const extent of page) {
        if (extent.kind !== 'zero') continue
        const extentEnd = extent.offset + extent.length
        const first = Math.ceil(extent.offset / DIGEST_BLOCK_BYTES)
        const last = extentEnd === store.sizeBytes ? end : Math.floor(extentEnd / DIGEST_BLOCK_BYTES)
        zero.fill(1, Math.max(0, first - from), Math.max(0, last - from))
      }
    }
    return zero
  }

  async #compare(blocks: readonly number[]): Promise<void> {
    const { store, sourceKey, parent, pool } = this.#input
    const pieces = new Float64Array(blocks.length * 3)
    const state = new Uint8Array(blocks.length)
    const digests = new Uint8Array(blocks.length * 16)
    for (const [i, block] of blocks.entries()) {
      const offset = block * DIGEST_BLOCK_BYTES
      pieces.set([offset, Math.min(DIGEST_BLOCK_BYTES, store.sizeBytes - offset), PIECE_DATA], i * 3)
      const window = await parent.windowOf(block)
      state[i] = window.state[block % WINDOW_BLOCKS] ?? 0
      digests.set(window.digest(block % WINDOW_BLOCKS), i * 16)
    }
    const bytes = blocks.length * DIGEST_BLOCK_BYTES
    this.readBytes += bytes
    const output = this.#memory.take()
    const job = { output, source: store.source, sourceKey, pieces, expected: { state, digests }, level: 1 }
    const [chunk] = await pool.run('readChunk', [job], bytes)
    this.#memory.give(output)
    this.#input.onRead?.(bytes)
    const runs = chunk?.runs ?? []
    for (let i = 0; i < runs.length; i += 3) {
      const first = runs[i] ?? 0
      for (let n = 0; n < (runs[i + 1] ?? 0); n++) this.missed.add(first + n)
    }
  }
}
