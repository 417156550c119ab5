import { storeRecord } from '../../model/chain.js'
import { DigestWindow } from '../../model/digest-window.js'
import { RefpointError } from '../../model/errors.js'
import type { Range } from '../../model/extent.js'
import { ExtentMap } from '../../model/extent-map.js'
import {
  blockCount,
  DIGEST_BLOCK_BYTES,
  SECTOR_BYTES,
  STATE_NONE,
  STATE_UNKNOWN,
  STATE_ZERO,
  WINDOW_BLOCKS,
  WINDOW_BYTES,
  WINDOW_SECTORS,
  windowCount,
} from '../../model/geometry.js'
import type { PointManifest } from '../../model/manifest.js'
import type { WindowTables } from '../../model/tables.js'
import type { ArchiveShelf, ChainArchive } from '../chain-reader.js'
import type { ComposeSource } from '../compose/compose-store.js'
import { type Loss, type LostRange, pushJoined } from './lost-blocks.js'

/** A link of a chain: an archive, or why there is none. */
type Link = { readonly archive: ChainArchive; readonly index: number } | { readonly loss: Loss }

const founds: Readonly<Record<number, Doubt['found']>> = { [STATE_NONE]: 'nothing', [STATE_ZERO]: 'zeroes' }

/** Bytes of which nobody can say whether what older archives hold is as new as it should be. */
export interface Doubt extends Range {
  readonly loss: Loss
  /** What older archives hold. */
  readonly found: 'nothing' | 'zeroes' | 'content'
}

const unchecked: Loss = { kind: 'unchecked', point: null, archive: null, reason: 'its digest is not known' }

/**
 * What is left of one store's chain. Lost archives are passed over, as if they had changed nothing: a block that a newer
 * archive speaks of has its digest there, which proves it or not. Of all others it is doubtful whether a lost archive
 * held something newer.
 */
export class SalvageChain implements ComposeSource {
  readonly sizeBytes: number
  readonly archives: readonly ChainArchive[]
  /** Ascending, as windows are read; whole digest blocks. */
  readonly doubts: Doubt[] = []
  readonly unchecked: LostRange[] = []
  /** The newest of the losses that were found so far. */
  loss: Loss | undefined
  readonly #store: string
  readonly #links: readonly Link[]

  private constructor(store: string, sizeBytes: number, links: readonly Link[]) {
    this.#store = store
    this.sizeBytes = sizeBytes
    this.#links = links
    this.archives = links.flatMap((link) => ('archive' in link ? [link.archive] : []))
    this.loss = links.flatMap((link) => ('loss' in link ? [link.loss] : []))[0]
  }

  /** Never fails for damage: what can't be opened is a loss. */
  static async open(
    shelf: ArchiveShelf,
    point: PointManifest,
    store: string,
    bySlot: ReadonlyMap<number, PointManifest>,
  ): Promise<SalvageChain> {
    const links: Link[] = []
    let index = 0
    for (const member of membersOf(point, store, bySlot)) {
      if ('loss' in member) {
        links.push(member)
        continue
      }
      try {
        links.push({ archive: await shelf.open(member.point), index })
        index++
      } catch (error) {
        links.push({ loss: lossOf(member.point, error) })
      }
    }
    return new SalvageChain(store, storeRecord(point, store)?.sizeBytes ?? 0, links)
  }

  /** All of them: where an archive is lost, nobody knows what it spoke of. */
  windows(): readonly number[] {
    return Array.from({ length: windowCount(this.sizeBytes) }, (_, window) => window)
  }

  async window(window: number): Promise<{ readonly digests: DigestWindow; readonly map: ExtentMap }> {
    const bytes = Math.max(0, Math.min(WINDOW_BYTES, this.sizeBytes - window * WINDOW_BYTES))
    const digests = new DigestWindow(Math.min(WINDOW_BLOCKS, blockCount(bytes)))
    const map = new ExtentMap(Math.min(WINDOW_SECTORS, Math.ceil(bytes / SECTOR_BYTES)))
    const doubtful = Array.from<Loss | undefined>({ length: digests.blocks })
    for (const link of this.#links) {
      if (digests.complete && map.complete) break
      const tables = await this.#tables(link, window)
      if (tables === undefined) continue
      if ('loss' in tables) {
        this.loss ??= tables.loss
        for (let block = 0; block < digests.blocks; block++) {
          if (digests.state[block] === STATE_NONE) doubtful[block] ??= tables.loss
        }
        continue
      }
      digests.addOlder(tables.runs)
      map.addOlder(tables.extents, tables.index)
    }
    for (let block = 0; block < digests.blocks; block++) {
      const offset = window * WINDOW_BYTES + block * DIGEST_BLOCK_BYTES
      const range = { offset, length: Math.min(DIGEST_BLOCK_BYTES, this.sizeBytes - offset) }
      const state = digests.state[block] ?? STATE_NONE
      const loss = doubtful[block]
      if (state === STATE_UNKNOWN) pushJoined(this.unchecked, { ...range, ...unchecked })
      if (loss !== undefined) this.#doubt({ ...range, loss, found: founds[state] ?? 'content' })
    }
    return { digests, map }
  }

  #doubt(next: Doubt): void {
    const last = this.doubts.at(-1)
    const joins =
      last !== undefined &&
      last.offset + last.length === next.offset &&
      last.loss === next.loss &&
      last.found === next.found
    if (joins) this.doubts[this.doubts.length - 1] = { ...last, length: last.length + next.length }
    else this.doubts.push(next)
  }

  async #tables(
    link: Link,
    window: number,
  ): Promise<(WindowTables & { readonly index: number }) | { readonly loss: Loss } | undefined> {
    if ('loss' in link) return link
    try {
      const tables = await link.archive.reader.store(this.#store)?.window(window)
      return tables === undefined ? undefined : { ...tables, index: link.index }
    } catch (error) {
      return { loss: lossOf(link.archive.point, error) }
    }
  }
}

type Member = { readonly point: PointManifest } | { readonly loss: Loss }

/** The points of a chain as far down as they can be followed, newest first, and what ended it before a full. */
function membersOf(
  point: PointManifest,
  store: string,
  bySlot: ReadonlyMap<number, PointManifest>,
): readonly Member[] {
  const members: Member[] = []
  const end = (slot: number | null, reason: string): readonly Member[] => [
    ...members,
    { loss: { kind: 'lost', point: slot, archive: null, reason } },
  ]
  for (let current = point; ;) {
    const record = storeRecord(current, store)
    if (record === undefined) return end(current.point, `point #${current.point} has no store '${store}'`)
    members.push({ point: current })
    if (record.mode === 'full') return members
    const { parent } = current
    if (parent === null || parent >= current.point) {
      return end(current.point, `point #${current.point} is incremental, and what it builds on is not known`)
    }
    const next = bySlot.get(parent)
    if (next === undefined || next.machineUuid !== current.machineUuid) {
      return end(parent, `the manifest of point #${parent} is lost, and with it what it and older points held`)
    }
    current = next
  }
}

/** @throws what is no damage. */
function lossOf(point: PointManifest, error: unknown): Loss {
  if (!isReadError(error)) throw error
  const reason = error instanceof Error ? error.message : String(error)
  return { kind: 'lost', point: point.point, archive: point.archive.name, reason }
}

/** Whether something stored can't be read, or is not what it should be. */
export function isReadError(error: unknown): boolean {
  if (error instanceof RefpointError) return error.code === 'damaged' || error.code === 'io'
  return error instanceof Error && 'code' in error && (error.code === 'EIO' || error.code === 'EACCES')
}
