import { rm } from 'node:fs/promises'
import { ContentSum } from '../../archive/content-sum.js'
import type { DigestWindow } from '../../model/digest-window.js'
import type { Range } from '../../model/extent.js'
import type { ExtentMap } from '../../model/extent-map.js'
import { DIGEST_BLOCK_BYTES, DIGEST_BYTES, STATE_DIGEST, WINDOW_BLOCKS, WINDOW_BYTES } from '../../model/geometry.js'
import { type FrameTask, type MixedBlock, planWindow, zeroRanges } from '../../model/restore-plan.js'
import { archiveAt, type ChainArchive, storedFrame } from '../chain-reader.js'
import type { ReadEnvironment } from '../environment.js'
import { grouped, ordered } from '../ordered.js'
import type { FrameJob, FrameResult } from '../tasks/decode-frame.js'
import { createScratch } from './scratch.js'

/** What a store is put together from: a chain, or what is left of one. */
export interface ComposeSource {
  readonly sizeBytes: number
  /** Newest first; the map of a window names them by their place in here. */
  readonly archives: readonly ChainArchive[]
  /** The windows that there is anything to say of, ascending. */
  windows(): readonly number[]
  window(window: number): Promise<{ readonly digests: DigestWindow; readonly map: ExtentMap }>
}

/** Something that is not what was written. */
export interface Damage {
  /** The point whose archive it is in; null where the tables of several disagree. */
  readonly point: number | null
  /** Bytes of the store that can't be trusted. */
  readonly offset: number
  readonly length: number
  readonly what: string
  /** Everything that it touches, where that is more than the first place. */
  readonly ranges: readonly Range[]
}

/** Where in a target's file a byte of the store is. What is one run of data on the store is one run there, too. */
export type Place = (storeOffset: number) => number

export interface ComposeTarget {
  readonly path: string
  /** Whether what no data covers must be written as zeroes: for everything that this run did not create. */
  readonly writeZeroes: boolean
  /**
   * Makes room for the data of a window, which begins at byte `windowOffset` of the store. Called once for each window
   * that has any, ascending, before anything of it is written.
   */
  openWindow(windowOffset: number, map: ExtentMap): Promise<Place>
}

export interface ComposeOptions {
  /** Where the store goes; null to only prove that it could. */
  readonly target: ComposeTarget | null
  /** Only the digest blocks that this point's own archive (index 0 of the chain) touches. */
  readonly touchedOnly: boolean
  readonly signal: AbortSignal
  readonly onBytes: (bytes: number) => void
  /** Each damage as it is found, without a limit, instead of in the result. */
  readonly onDamage?: (damage: Damage) => void
}

export interface Composed {
  readonly damage: readonly Damage[]
  /** Of the whole store; null where a digest is unknown, or with `touchedOnly`. */
  readonly contentSum: string | null
  readonly unknownBlocks: number
}

interface Placed {
  readonly path: string
  readonly place: Place
}

/** More is not told one by one: the first of many tell enough. */
const MAX_DAMAGE = 1000
const FRAMES_PER_MESSAGE = 4
/** Rows of one check of blocks that are read back. */
const BLOCKS_PER_CHECK = 256

/**
 * Puts a store together from its chain, window by window, each archive forward only, and checks every digest on the
 * way. Damage is collected, so that verify can name all of it; the caller decides what it means.
 */
export async function composeStore(
  environment: ReadEnvironment,
  chain: ComposeSource,
  store: string,
  options: ComposeOptions,
): Promise<Composed> {
  const run = new ComposeRun(environment, chain, store, options)
  return await run.run()
}

class ComposeRun {
  readonly #environment: ReadEnvironment
  readonly #chain: ComposeSource
  readonly #store: string
  readonly #options: ComposeOptions
  readonly #damage: Damage[] = []
  readonly #sum = new ContentSum()
  #unknown = 0

  constructor(environment: ReadEnvironment, chain: ComposeSource, store: string, options: ComposeOptions) {
    this.#environment = environment
    this.#chain = chain
    this.#store = store
    this.#options = options
  }

  async run(): Promise<Composed> {
    const { touchedOnly, target } = this.#options
    const own = this.#chain.archives[0]?.reader.store(this.#store)
    const windows = touchedOnly ? Array.from(own?.windows ?? []) : this.#chain.windows()
    let end = 0
    let next = windows[0] === undefined ? undefined : this.#chain.window(windows[0])
    for (const [i, window] of windows.entries()) {
      const current = await next
      const following = windows[i + 1]
      next = following === undefined ? undefined : this.#chain.window(following)
      next?.catch(() => {})
      if (current === undefined) throw new RangeError(`window ${window} was not loaded`)
      if (target?.writeZeroes === true && window * WINDOW_BYTES > end)
        await this.#zero(end, window * WINDOW_BYTES - end)
      await this.#window(window, current)
      end = Math.min((window + 1) * WINDOW_BYTES, this.#chain.sizeBytes)
    }
    if (target?.writeZeroes === true && end < this.#chain.sizeBytes) await this.#zero(end, this.#chain.sizeBytes - end)
    return {
      damage: this.#damage,
      contentSum: touchedOnly || this.#unknown > 0 ? null : this.#sum.toHex(),
      unknownBlocks: this.#unknown,
    }
  }

  async #window(window: number, { digests, map }: Awaited<ReturnType<ComposeSource['window']>>): Promise<void> {
    const { target, touchedOnly } = this.#options
    const windowOffset = window * WINDOW_BYTES
    const { sizeBytes } = this.#chain
    const only = touchedOnly ? await this.#touched(window, digests.blocks) : undefined
    if (only === undefined) this.#addToSum(window, digests)
    const plan = planWindow({ map, digests, windowOffset, sizeBytes, ...(only === undefined ? {} : { only }) })
    this.#unknown += plan.unknownBlocks
    for (const problem of plan.problems) {
      const offset = problem.block * DIGEST_BLOCK_BYTES
      const length = Math.min(DIGEST_BLOCK_BYTES, sizeBytes - offset)
      this.#damaged(null, [{ offset, length }], `the block ${problem.what}`)
    }
    if (target !== null) {
      const place = await target.openWindow(windowOffset, map)
      await this.#frames(plan.frames, { path: target.path, place })
      if (target.writeZeroes)
        for (const range of zeroRanges(map, windowOffset, sizeBytes)) await this.#zero(range.offset, range.length)
      await this.#mixed(plan.mixed, { path: target.path, place })
      return
    }
    if (plan.mixed.length === 0) {
      await this.#frames(plan.frames, null)
      return
    }
    // Blocks of several frames are put together in a sparse file of our own, as a restore would, and read back.
    const path = await createScratch(Math.min(WINDOW_BYTES, sizeBytes - windowOffset))
    try {
      const place: Place = (offset) => offset - windowOffset
      await this.#frames(plan.frames, { path, place })
      await this.#mixed(plan.mixed, { path, place })
    } finally {
      await rm(path, { force: true })
    }
  }

  async #frames(tasks: Iterable<FrameTask>, target: Placed | null): Promise<void> {
    const { pool, budget } = this.#environment
    const running = ordered(
      grouped(this.#frameJobs(tasks, target), FRAMES_PER_MESSAGE),
      async (group) => {
        const jobs = group.map(({ job }) => job)
        const results = await pool.run(
          'decodeFrame',
          jobs,
          jobs.reduce((sum, { frame }) => sum + frame.contentBytes, 0),
        )
        return group.map(({ task }, i) => ({ task, result: results[i] }))
      },
      {
        budget,
        bytesOf: (group) => group.reduce((sum, { job: { frame } }) => sum + frame.contentBytes + frame.storedBytes, 0),
        signal: this.#options.signal,
        maxJobs: pool.workers * 2,
      },
    )
    for await (const group of running) {
      for (const { task, result } of group) if (result !== undefined) this.#framed(task, result)
    }
  }

  #framed(task: FrameTask, result: FrameResult): void {
    const point = this.#chain.archives[task.archive]?.point.point ?? null
    if (result.unreadable !== null) {
      this.#damaged(point, takenBy(task), `frame ${task.frame} can't be read: ${result.unreadable}`)
    }
    for (const block of result.damaged) {
      const offset = block * DIGEST_BLOCK_BYTES
      const length = Math.min(DIGEST_BLOCK_BYTES, this.#chain.sizeBytes - offset)
      this.#damaged(point, [{ offset, length }], `content in frame ${task.frame} does not have its digest`)
    }
    const rows = task.writes.length > 0 ? task.writes : task.checks
    let bytes = 0
    for (let i = 1; i < rows.length; i += 3) bytes += rows[i] ?? 0
    this.#options.onBytes(bytes)
  }

  *#frameJobs(tasks: Iterable<FrameTask>, target: Placed | null): Generator<{ task: FrameTask; job: FrameJob }> {
    for (const task of tasks) {
      const { archive, ...frame } = storedFrame(archiveAt(this.#chain, task.archive), task.frame)
      const { checks, expected } = task
      const writes = target === null ? task.writes : placed(task.writes, target.place)
      const targetPath = target?.path ?? null
      yield { task, job: { archive, frame, writes, checks, expected, targetPath } }
    }
  }

  async #mixed(blocks: readonly MixedBlock[], { path, place }: Placed): Promise<void> {
    for (let i = 0; i < blocks.length; i += BLOCKS_PER_CHECK) {
      this.#options.signal.throwIfAborted()
      const part = blocks.slice(i, i + BLOCKS_PER_CHECK)
      const rows = new Float64Array(part.length * 3)
      const expected = new Uint8Array(part.length * DIGEST_BYTES)
      for (const [n, block] of part.entries()) {
        rows.set([block.block, block.lengthBytes, place(block.block * DIGEST_BLOCK_BYTES)], n * 3)
        expected.set(block.expected, n * DIGEST_BYTES)
      }
      const bytes = part.length * DIGEST_BLOCK_BYTES
      const job = { targetPath: path, blocks: rows, expected }
      const [result] = await this.#environment.pool.run('checkBlocks', [job], bytes)
      for (const block of result?.damaged ?? []) {
        const offset = block * DIGEST_BLOCK_BYTES
        const length = Math.min(DIGEST_BLOCK_BYTES, this.#chain.sizeBytes - offset)
        const what = 'a block put together from several frames does not have its digest'
        this.#damaged(null, [{ offset, length }], what)
      }
    }
  }

  async #zero(offset: number, length: number): Promise<void> {
    const { target, signal } = this.#options
    if (target === null) return
    const step = 64 * 1024 * 1024
    for (let done = 0; done < length; done += step) {
      signal.throwIfAborted()
      const part = Math.min(step, length - done)
      await this.#environment.pool.run(
        'writeZeroes',
        [{ path: target.path, offset: offset + done, length: part }],
        part,
      )
    }
  }

  /** The blocks of a window that the point's own archive speaks of. */
  async #touched(window: number, blocks: number): Promise<Uint8Array> {
    const touched = new Uint8Array(blocks)
    const tables = await this.#chain.archives[0]?.reader.store(this.#store)?.window(window)
    for (let i = 0; i < (tables?.runs.count ?? 0); i++) {
      const first = tables?.runs.first[i] ?? 0
      touched.fill(1, first, first + (tables?.runs.blocks[i] ?? 0))
    }
    return touched
  }

  #addToSum(window: number, digests: DigestWindow): void {
    for (let block = 0; block < digests.blocks; block++) {
      const state = digests.state[block]
      if (state === STATE_DIGEST) this.#sum.add(window * WINDOW_BLOCKS + block, digests.digest(block))
    }
  }

  #damaged(point: number | null, ranges: readonly Range[], what: string): void {
    const [first = { offset: 0, length: 0 }] = ranges
    const damage: Damage = { point, offset: first.offset, length: first.length, what, ranges }
    if (this.#options.onDamage !== undefined) this.#options.onDamage(damage)
    else if (this.#damage.length < MAX_DAMAGE) this.#damage.push(damage)
  }
}

/** The bytes of the store for which a frame is needed. */
function takenBy({ writes, checks }: FrameTask): readonly Range[] {
  const ranges: Range[] = []
  for (let i = 0; i < writes.length; i += 3) ranges.push({ offset: writes[i + 2] ?? 0, length: writes[i + 1] ?? 0 })
  if (ranges.length > 0) return ranges
  for (let i = 0; i < checks.length; i += 3) {
    ranges.push({ offset: (checks[i + 2] ?? 0) * DIGEST_BLOCK_BYTES, length: checks[i + 1] ?? 0 })
  }
  return ranges
}

/** Rows of `FrameTask.writes` with their places in the target's file. */
function placed(writes: Float64Array, place: Place): Float64Array {
  const rows = writes.slice()
  for (let i = 2; i < rows.length; i += 3) rows[i] = place(rows[i] ?? 0)
  return rows
}
