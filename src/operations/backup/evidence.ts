import { randomUUID } from 'node:crypto'
import { storeRecord } from '../../model/chain.js'
import { ChangeIdExpired } from '../../model/errors.js'
import type { Range } from '../../model/extent.js'
import type { Distrust, PointManifest } from '../../model/manifest.js'
import type { StoreEvidence } from '../../model/planner.js'
import type { Trust } from '../../model/trust.js'
import type { CheckpointStore } from '../../trackers/tracker.js'

/** A store with the tracker's answer. */
export interface Asked {
  readonly store: CheckpointStore
  readonly evidence: StoreEvidence
  /** Of this store in this run, for what workers keep open. */
  readonly sourceKey: string
  /** Asks again for the changed ranges: they are listed as often as they are needed, never kept. */
  readonly changed: (() => Promise<AsyncIterable<readonly Range[]>>) | undefined
}

/** Asks the tracker of each store what changed since the parent point; "can't say" is evidence, not an error. */
export async function gatherEvidence(
  stores: readonly CheckpointStore[],
  parent: PointManifest | undefined,
  trust: ReadonlyMap<string, Trust>,
  signal: AbortSignal,
): Promise<readonly Asked[]> {
  return await Promise.all(stores.map((store) => ask(store, parent, trust.get(store.name)?.distrust ?? null, signal)))
}

async function ask(
  store: CheckpointStore,
  parent: PointManifest | undefined,
  distrust: Distrust | null,
  signal: AbortSignal,
): Promise<Asked> {
  const { name, sizeBytes } = store
  const sourceKey = randomUUID()
  const known = { name, sizeBytes, keepsChangeIds: store.changeId !== undefined, distrust }
  const since = parent === undefined ? undefined : storeRecord(parent, name)?.changeId
  if (since == null || store.changeId === undefined) {
    return { store, sourceKey, evidence: { ...known, tracked: undefined }, changed: undefined }
  }
  try {
    await store.changedExtents(since, { signal })
    return {
      store,
      sourceKey,
      evidence: { ...known, tracked: 'yes' },
      changed: () => store.changedExtents(since, { signal }),
    }
  } catch (error) {
    if (!(error instanceof ChangeIdExpired)) throw error
    const tracked = { expired: error.reason, explanation: error.explanation }
    return { store, sourceKey, evidence: { ...known, tracked }, changed: undefined }
  }
}
