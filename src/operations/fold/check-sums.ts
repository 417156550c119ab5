import { ContentSum } from '../../archive/content-sum.js'
import { storeChain, storeRecord } from '../../model/chain.js'
import { RefpointError } from '../../model/errors.js'
import {
  blockCount,
  DIGEST_BYTES,
  hasDigests,
  STATE_DIGEST,
  STATE_NONE,
  STATE_UNKNOWN,
  WINDOW_BLOCKS,
  windowCount,
} from '../../model/geometry.js'
import type { PointManifest } from '../../model/manifest.js'
import type { WindowTables } from '../../model/tables.js'
import type { ArchiveShelf, ChainArchive } from '../chain-reader.js'

/**
 * Proves that every point whose chain holds a rewritten archive still is what it was: the content sum of each of its
 * stores is computed anew from the tables of the chain as it will be. One pass over each chain's tables, whatever the
 * number of points on it.
 * @param revised the points whose archive is new.
 * @throws RefpointError `damaged`: what is there now must stay.
 */
export async function checkSums(
  points: readonly PointManifest[],
  revised: ReadonlySet<number>,
  shelf: ArchiveShelf,
  signal: AbortSignal,
): Promise<void> {
  const bySlot = new Map(points.map((point) => [point.point, point]))
  const proven = new Set<string>()
  for (const point of points.toReversed()) {
    for (const { name } of point.stores) {
      if (proven.has(`${point.point} ${name}`)) continue
      const chain = storeChain(point, name, bySlot).toReversed()
      const first = chain.findIndex((member) => revised.has(member.point))
      if (first < 0) continue
      const archives: ChainArchive[] = []
      for (const member of chain) archives.push(await shelf.open(member))
      // What builds on nothing rewritten is known to have the sum that its manifest tells.
      const trusted = first > 0 && storeRecord(chain[first - 1] ?? point, name)?.contentSum != null ? first : 0
      await new SumCheck(name, archives, trusted).run(signal)
      for (const member of chain.slice(first)) proven.add(`${member.point} ${name}`)
    }
  }
}

/** One store along one chain, oldest point first. */
class SumCheck {
  readonly #store: string
  readonly #archives: readonly ChainArchive[]
  /** How many of the oldest points are taken at their word. */
  readonly #trusted: number
  /** What each point changes in the sum, and in the number of unknown blocks. */
  readonly #changes: readonly ContentSum[]
  readonly #unknown: number[]
  /** Of the window at hand, as the points so far leave it. */
  readonly #state = new Uint8Array(WINDOW_BLOCKS)
  readonly #digests = new Uint8Array(WINDOW_BLOCKS * DIGEST_BYTES)

  constructor(store: string, archives: readonly ChainArchive[], trusted: number) {
    this.#store = store
    this.#archives = archives
    this.#trusted = trusted
    this.#changes = archives.map(() => new ContentSum())
    this.#unknown = archives.map(() => 0)
  }

  async run(signal: AbortSignal): Promise<void> {
    const windows = new Set(this.#archives.flatMap(({ reader }) => reader.store(this.#store)?.windows ?? []))
    for (const window of [...windows].sort((a, b) => a - b)) {
      signal.throwIfAborted()
      this.#state.fill(STATE_NONE)
      for (const [index, { reader }] of this.#archives.entries()) {
        const store = reader.store(this.#store)
        if (store === undefined) continue
        if (window >= windowCount(store.sizeBytes) - 1) this.#cut(index, window, store.sizeBytes)
        const tables = await store.window(window)
        if (tables !== undefined) this.#apply(index, window, tables)
      }
    }
    this.#compare()
  }

  /** Blocks past the end of the store at this point are gone. */
  #cut(index: number, window: number, sizeBytes: number): void {
    const end = Math.max(0, blockCount(sizeBytes) - window * WINDOW_BLOCKS)
    for (let block = end; block < WINDOW_BLOCKS; block += 1) this.#set(index, window, block, STATE_NONE, undefined, 0)
  }

  #apply(index: number, window: number, { runs }: WindowTables): void {
    let at = 0
    for (let run = 0; run < runs.count; run += 1) {
      const first = runs.first[run] ?? 0
      const state = runs.state[run] ?? STATE_NONE
      const known = hasDigests(state)
      for (let block = first; block < first + (runs.blocks[run] ?? 0); block += 1) {
        this.#set(index, window, block, known ? STATE_DIGEST : state, runs.digests, at)
        if (known) at += DIGEST_BYTES
      }
    }
  }

  #set(index: number, window: number, block: number, state: number, digests: Uint8Array | undefined, at: number): void {
    const counted = index >= this.#trusted
    const before = this.#state[block]
    const absolute = window * WINDOW_BLOCKS + block
    if (counted && before === STATE_DIGEST) {
      this.#changes[index]?.subtract(absolute, this.#digests, block * DIGEST_BYTES)
    }
    if (before === STATE_UNKNOWN) this.#unknown[index] = (this.#unknown[index] ?? 0) - 1
    this.#state[block] = state
    if (state === STATE_UNKNOWN) this.#unknown[index] = (this.#unknown[index] ?? 0) + 1
    if (state !== STATE_DIGEST || digests === undefined) return
    if (counted) this.#changes[index]?.add(absolute, digests, at)
    this.#digests.set(digests.subarray(at, at + DIGEST_BYTES), block * DIGEST_BYTES)
  }

  #compare(): void {
    const sum = new ContentSum()
    let unknown = 0
    for (const [index, { point }] of this.#archives.entries()) {
      const recorded = storeRecord(point, this.#store)?.contentSum
      unknown += this.#unknown[index] ?? 0
      if (index < this.#trusted) {
        if (index === this.#trusted - 1 && recorded != null) sum.addHex(recorded)
        continue
      }
      const change = this.#changes[index]
      if (change !== undefined) sum.addHex(change.toHex())
      if (recorded == null || unknown > 0 || sum.toHex() === recorded) continue
      throw new RefpointError(
        'damaged',
        `folding would change point #${point.point} of machine '${point.machine}' (store '${this.#store}'): its content sum ` +
          `would be ${sum.toHex()} instead of ${recorded}; nothing was changed`,
        {
          hint: `Run 'refpoint verify ${point.machine}': an archive that the point needs is damaged, or this is a bug.`,
          fields: { machine: point.machine, point: point.point, store: this.#store },
        },
      )
    }
  }
}
