import { randomUUID } from 'node:crypto'
import type { ArchiveHeader } from '../../archive/archive-header.js'
import { ArchiveWriter } from '../../archive/writer.js'
import { storeRecord } from '../../model/chain.js'
import { RefpointError } from '../../model/errors.js'
import type { Fold } from '../../model/fold-plan.js'
import type { PointManifest, StoreRecord } from '../../model/manifest.js'
import { wholeAt } from '../../model/whole-at.js'
import { archiveName } from '../../repository/layout.js'
import { type ArchiveShelf, type ChainArchive, StoreChain } from '../chain-reader.js'
import type { WriteEnvironment } from '../environment.js'
import { storeArchive } from '../store-archive.js'
import { foldStore } from './fold-store.js'

/** Output that waits: little, so that what was read is hashed and written while the processor's cache still has it. */
const QUEUE_BYTES = 2 * 1024 * 1024

export interface FoldPointInput {
  readonly environment: WriteEnvironment
  readonly fold: Fold
  /** The history as it is before the fold. */
  readonly bySlot: ReadonlyMap<number, PointManifest>
  readonly shelf: ArchiveShelf
  /** The slot that the prune will claim: the new manifest's revision. */
  readonly slot: number
  readonly level: number
  readonly signal: AbortSignal
  readonly onBytes: (bytes: number) => void
}

/**
 * Writes the archive of one fold; durable when this resolves. Returns the target's new manifest, which is nowhere yet.
 * @throws RefpointError `damaged` when a member can't be read.
 */
export async function foldPoint(input: FoldPointInput): Promise<PointManifest> {
  const { environment, fold, bySlot, shelf, slot, level, signal } = input
  const members: ChainArchive[] = []
  for (const member of fold.members) members.push(await shelf.open(pointOf(bySlot, member)))
  const target = pointOf(bySlot, fold.target)
  const parts = target.stores.map((store) => ({ store, ...partOf(store, members, fold) }))
  const parent = parts.every(({ whole }) => whole) ? null : fold.parent
  const nonce = randomUUID()
  const header: ArchiveHeader = {
    format: 1,
    requires: [...new Set(members.flatMap(({ reader }) => reader.header.requires))],
    optional: [],
    agent: environment.agent,
    repositoryId: target.repositoryId,
    machine: target.machine,
    machineUuid: target.machineUuid,
    point: target.point,
    parent,
    nonce,
    time: target.time,
    consistency: target.consistency,
    stores: parts.map(({ store, mode }) => ({ name: store.name, kind: store.kind, sizeBytes: store.sizeBytes, mode })),
  }
  const writer = new ArchiveWriter({ header, codec: environment.codec, level, queueBytes: QUEUE_BYTES })
  const { archive, result } = await storeArchive({
    repository: environment.repository,
    name: archiveName(target.machine, nonce),
    writer,
    signal,
    fill: async (stop) => {
      await copyConfig(members[0], writer)
      const stores: StoreRecord[] = []
      for (const { store, mode, reason, chain } of parts) {
        const folded = writer.foldedStore(store.name)
        await foldStore({ environment, chain, writer: folded, level, signal: stop, onBytes: input.onBytes })
        stores.push({ ...store, mode, reason, ...(await folded.finish(store.contentSum)) })
      }
      return stores
    },
  })
  return { ...target, parent, nonce, revision: slot, wholeAt: wholeAt(target, bySlot), stores: result, archive }
}

/** Which members a store is made of: those down to the first that holds the whole of it. */
function partOf(
  store: StoreRecord,
  members: readonly ChainArchive[],
  fold: Fold,
): Pick<StoreRecord, 'mode' | 'reason'> & { readonly whole: boolean; readonly chain: StoreChain } {
  const full = members.findIndex(({ point }) => storeRecord(point, store.name)?.mode === 'full')
  const whole = full >= 0
  const part = whole ? members.slice(0, full + 1) : members
  const without = part.find(({ point }) => storeRecord(point, store.name) === undefined)
  if (without !== undefined || (!whole && fold.parent === null)) {
    const what = without === undefined ? 'has no full below it' : `builds on #${without.point.point}, which has none of it`
    throw new RefpointError('damaged', `store '${store.name}' of point #${fold.target} ${what}`, {
      fields: { machine: members[0]?.point.machine, point: fold.target, store: store.name },
    })
  }
  const [mode, reason] = whole ? (['full', foldedReason(store, part)] as const) : [store.mode, store.reason]
  return { mode, reason, whole, chain: StoreChain.of(store.name, part, store.sizeBytes) }
}

/** Why a store that a backup took as an incremental is in full now. */
function foldedReason(store: StoreRecord, part: readonly ChainArchive[]): string {
  if (store.mode === 'full') return store.reason
  return `folded with what it needed of earlier points, down to #${part.at(-1)?.point.point}; ${store.mode} when taken`
}

async function copyConfig(source: ChainArchive | undefined, writer: ArchiveWriter): Promise<void> {
  for (const { path } of source?.reader.config ?? []) {
    await writer.addConfig(path, (await source?.reader.readConfig(path)) ?? new Uint8Array(0))
  }
}

function pointOf(bySlot: ReadonlyMap<number, PointManifest>, slot: number): PointManifest {
  const point = bySlot.get(slot)
  if (point === undefined) throw new RangeError(`point #${slot} is not in the history`)
  return point
}
