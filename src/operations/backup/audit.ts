import type { Range } from '../../model/extent.js'
import {
  blockCount,
  DIGEST_BLOCK_BYTES,
  FRAME_CONTENT_BYTES,
  STATE_DIGEST,
  STATE_ZERO,
  WINDOW_BLOCKS,
} from '../../model/geometry.js'
import type { CheckpointStore } from '../../trackers/tracker.js'
import type { TaskPool } from '../pool.js'
import { FRAME_ROOM, PIECE_DATA } from '../tasks/read-chunk.js'
import type { ParentDigests } from './parent-digests.js'

/*
 * Trackers are audited, not believed: each tracked incremental reads some blocks that the tracker called unchanged and
 * compares their digests with the stored ones, before anything is stored. The place goes round the store from run to
 * run; the tail is looked at every time, since that is where resizes that nobody noticed show.
 */

export interface AuditInput {
  readonly store: CheckpointStore
  readonly sourceKey: string
  readonly changed: AsyncIterable<readonly Range[]>
  readonly parent: ParentDigests
  /** Digest block to begin at: where the last audit ended. */
  readonly from: number
  readonly budget: { readonly bytes: number; readonly milliseconds: number }
  readonly pool: TaskPool
  readonly signal: AbortSignal
}

export interface AuditResult {
  /** Where the next audit goes on. */
  readonly next: number
  readonly checkedBlocks: number
  /** Blocks that differ although the tracker called them unchanged. */
  readonly mismatches: readonly number[]
}

const JOB_BLOCKS = FRAME_CONTENT_BYTES / DIGEST_BLOCK_BYTES

/** Audits one store within the budget. */
export async function auditStore(input: AuditInput): Promise<AuditResult> {
  const { store, budget } = input
  const blocks = blockCount(store.sizeBytes)
  if (blocks === 0) return { next: 0, checkedBlocks: 0, mismatches: [] }
  const touched = await touchedBlocks(input.changed, blocks)
  const deadline = performance.now() + budget.milliseconds
  const run = new AuditRun(input, touched)
  const tail = Math.max(0, blocks - JOB_BLOCKS)
  await run.check(tail, blocks)
  let at = input.from < blocks ? input.from : 0
  const start = at
  let wrapped = false
  while (run.readBytes < budget.bytes && performance.now() < deadline) {
    const end = Math.min(blocks, (Math.floor(at / WINDOW_BLOCKS) + 1) * WINDOW_BLOCKS, wrapped ? start : blocks)
    at = await run.checkWithin(at, end, budget.bytes, deadline)
    if (at === blocks) at = 0
    if (at === 0 && !wrapped) wrapped = true
    if (wrapped && at >= start) break
  }
  return { next: at, checkedBlocks: run.checked, mismatches: run.mismatches }
}

/** One bit a block: what the tracker named, so that it is not read twice. */
async function touchedBlocks(changed: AsyncIterable<readonly Range[]>, blocks: number): Promise<Uint8Array> {
  const bits = new Uint8Array(Math.ceil(blocks / 8))
  for await (const page of changed) {
    for (const range of page) {
      const end = Math.min(blocks, Math.ceil((range.offset + range.length) / DIGEST_BLOCK_BYTES))
      for (let block = Math.floor(range.offset / DIGEST_BLOCK_BYTES); block < end; block++) {
        bits[block >> 3] = (bits[block >> 3] ?? 0) | (1 << (block & 7))
      }
    }
  }
  return bits
}

class AuditRun {
  readonly mismatches: number[] = []
  readBytes = 0
  checked = 0
  readonly #input: AuditInput
  readonly #touched: Uint8Array

  constructor(input: AuditInput, touched: Uint8Array) {
    this.#input = input
    this.#touched = touched
  }

  /** Checks blocks up to `end` or until the budget is used; returns where it stopped. */
  async checkWithin(from: number, end: number, budgetBytes: number, deadline: number): Promise<number> {
    let at = from
    while (at < end && this.readBytes < budgetBytes && performance.now() < deadline) {
      // Long stretches of guaranteed zeroes cost no reading: step over them in large strides, but not past the budget.
      const left = Math.ceil((budgetBytes - this.readBytes) / DIGEST_BLOCK_BYTES)
      const stop = Math.min(end, at + Math.min(JOB_BLOCKS * 16, left))
      await this.check(at, stop)
      at = stop
    }
    return at
  }

  async check(from: number, end: number): Promise<void> {
    const { store, parent, signal } = this.#input
    const range = {
      offset: from * DIGEST_BLOCK_BYTES,
      length: Math.min(end * DIGEST_BLOCK_BYTES, store.sizeBytes) - from * DIGEST_BLOCK_BYTES,
    }
    const zero = new Uint8Array(end - from)
    for await (const page of store.allocatedExtents(range, { signal })) {
      for (const extent of page) {
        if (extent.kind !== 'zero') continue
        const extentEnd = extent.offset + extent.length
        const last = extentEnd === store.sizeBytes ? end : Math.floor(extentEnd / DIGEST_BLOCK_BYTES)
        for (let block = Math.ceil(extent.offset / DIGEST_BLOCK_BYTES); block < last; block++) zero[block - from] = 1
      }
    }
    const toRead: number[] = []
    for (let block = from; block < end; block++) {
      // A block that the store's end moved over has another length than its digest was made of.
      if (((this.#touched[block >> 3] ?? 0) >> (block & 7)) & 1 || parent.isForced(block)) continue
      const window = await parent.windowOf(block)
      const state = window.state[block % WINDOW_BLOCKS]
      if (state !== STATE_DIGEST && state !== STATE_ZERO) continue
      this.checked++
      if (zero[block - from] === 0) toRead.push(block)
      else if (state === STATE_DIGEST) this.mismatches.push(block)
    }
    const jobs: number[][] = []
    for (let i = 0; i < toRead.length; i += JOB_BLOCKS) jobs.push(toRead.slice(i, i + JOB_BLOCKS))
    await Promise.all(jobs.map((job) => this.#compare(job)))
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
    const job = { output: new SharedArrayBuffer(FRAME_ROOM), source: store.source, sourceKey, pieces, expected: { state, digests }, level: 1 }
    const [chunk] = await pool.run('readChunk', [job], bytes)
    const runs = chunk?.runs ?? []
    for (let i = 0; i < runs.length; i += 3) {
      const first = runs[i] ?? 0
      for (let n = 0; n < (runs[i + 1] ?? 0); n++) this.mismatches.push(first + n)
    }
  }
}
