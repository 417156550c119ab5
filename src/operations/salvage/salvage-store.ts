import { storeRecord } from '../../model/chain.js'
import type { PointManifest } from '../../model/manifest.js'
import { composeStore } from '../compose/compose-store.js'
import type { ReadEnvironment } from '../environment.js'
import type { RestoreTarget } from '../restore/target.js'
import { LostBlocks, type LostRange, overlay, pushJoined } from './lost-blocks.js'
import { type Doubt, isReadError, type SalvageChain } from './salvage-chain.js'

export interface SalvagedStore {
  readonly store: string
  readonly path: string
  readonly sizeBytes: number
  /** Bytes that are proven to be what they were at the point: all that is not listed, unless there are suspects. */
  readonly provenBytes: number
  readonly lost: readonly LostRange[]
  /**
   * Archives that are not what was written, where the sum over the whole store does not vouch for their tables: blocks
   * that are not listed have their digests, but damaged tables may have named older ones.
   */
  readonly suspects: readonly string[]
}

export interface SalvageStoreOptions {
  /** Whether content of older points stands where a lost archive may have held newer; it is listed all the same. */
  readonly withOlder: boolean
  readonly signal: AbortSignal
  readonly onBytes: (bytes: number) => void
}

/** Writes what is left of one store, and zeroes where nothing is proven; tells which ranges those are. */
export async function salvageStore(
  environment: ReadEnvironment,
  point: PointManifest,
  store: string,
  chain: SalvageChain,
  target: RestoreTarget,
  options: SalvageStoreOptions,
): Promise<SalvagedStore> {
  const { sizeBytes } = chain
  const blocks = new LostBlocks()
  const archiveOf = new Map(chain.archives.map(({ point: member }) => [member.point, member.archive.name]))
  const composed = await composeStore(environment, chain, store, {
    target,
    touchedOnly: false,
    signal: options.signal,
    onBytes: options.onBytes,
    onDamage: ({ point: slot, what, ranges }) => {
      if (slot === null && chain.loss !== undefined) {
        // Parts of the block are missing because an archive is.
        blocks.addRanges(ranges, { ...chain.loss, reason: `${what}: ${chain.loss.reason}` })
        return
      }
      const archive = slot === null ? null : (archiveOf.get(slot) ?? null)
      blocks.addRanges(ranges, { kind: 'lost', point: slot, archive, reason: what })
    },
  })
  const damaged = blocks.ranges(sizeBytes)
  const recorded = storeRecord(point, store)?.contentSum ?? null
  const sumHolds = recorded !== null && composed.contentSum === recorded
  // What older archives hold is as new as it should be after all when the sum over the whole store says so.
  const doubts = sumHolds ? [] : chain.doubts
  await zero(environment, target, damaged, options.signal)
  if (!options.withOlder) {
    await zero(environment, target, doubts.filter(({ found }) => found === 'content'), options.signal)
  }
  const lost = overlay(damaged, overlay(doubtful(doubts, options), chain.unchecked))
  const suspects = sumHolds ? [] : await findSuspects(environment, chain, options.signal)
  const unlisted = sizeBytes - lost.reduce((sum, { length }) => sum + length, 0)
  return {
    store,
    path: target.finalPath,
    sizeBytes,
    provenBytes: suspects.length > 0 ? 0 : unlisted,
    lost,
    suspects,
  }
}

/** Doubts as they are told. Of a block that no archive speaks of, there is nothing older to stand there either. */
function doubtful(doubts: readonly Doubt[], { withOlder }: SalvageStoreOptions): readonly LostRange[] {
  const ranges: LostRange[] = []
  for (const { offset, length, loss, found } of doubts) {
    pushJoined(ranges, { offset, length, ...loss, kind: withOlder && found !== 'nothing' ? 'older' : 'lost' })
  }
  return ranges
}

/** The archives of a chain whose bytes are not those that the manifests name. */
async function findSuspects(
  { pool }: ReadEnvironment,
  chain: SalvageChain,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const suspects: string[] = []
  for (const { point, location } of chain.archives) {
    signal.throwIfAborted()
    const [sha256] = await pool.run('hashObject', [{ location }], location.bytes).catch((error: unknown) => {
      if (isReadError(error)) return []
      throw error
    })
    if (sha256 !== point.archive.sha256) suspects.push(point.archive.name)
  }
  return suspects
}

/** Takes back what was written and is not proven. */
async function zero(
  { pool }: ReadEnvironment,
  { path }: RestoreTarget,
  ranges: readonly { readonly offset: number; readonly length: number }[],
  signal: AbortSignal,
): Promise<void> {
  const step = 64 * 1024 * 1024
  for (const range of ranges) {
    for (let done = 0; done < range.length; done += step) {
      signal.throwIfAborted()
      const length = Math.min(step, range.length - done)
      await pool.run('writeZeroes', [{ path, offset: range.offset + done, length }], length)
    }
  }
}

/** Bytes of all ranges of one kind. */
export function bytesOf(ranges: readonly LostRange[], kind: LostRange['kind']): number {
  return ranges.reduce((sum, range) => (range.kind === kind ? sum + range.length : sum), 0)
}
