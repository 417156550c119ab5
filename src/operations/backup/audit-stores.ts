import { storeRecord } from '../../model/chain.js'
import type { PointManifest } from '../../model/manifest.js'
import type { BackupPlan, StorePlan } from '../../model/planner.js'
import { sizeChangeRanges } from '../../model/ranges.js'
import type { Trust } from '../../model/trust.js'
import { auditStore } from '../audit/audit-store.js'
import { type ArchiveShelf, StoreChain } from '../chain-reader.js'
import type { ReadEnvironment } from '../environment.js'
import type { Asked } from './evidence.js'
import { ParentDigests } from './parent-digests.js'

type PointPlan = Extract<BackupPlan, { kind: 'point' }>

export interface AuditStoresInput {
  readonly environment: ReadEnvironment
  readonly machine: { readonly audit: { readonly bytes: number; readonly milliseconds: number } }
  readonly asked: readonly Asked[]
  readonly plan: PointPlan
  readonly points: readonly PointManifest[]
  readonly parent: PointManifest | undefined
  readonly trust: ReadonlyMap<string, Trust>
  readonly shelf: ArchiveShelf
  readonly signal: AbortSignal
}

export interface AuditOutcome {
  /** The plan, with every store whose tracker was caught compared instead. */
  readonly plan: PointPlan
  /** Store name to what its tracker missed of what was looked at. */
  readonly caught: ReadonlyMap<string, string>
  /** Store name to where its next audit goes on. */
  readonly auditedTo: ReadonlyMap<string, number>
}

/** Audits the tracked stores of a plan; the budget is the machine's, and what a store leaves of it the next one has. */
export async function auditStores(input: AuditStoresInput): Promise<AuditOutcome> {
  const { machine, plan, parent, asked, trust } = input
  const auditedTo = new Map<string, number>()
  const caught = new Map<string, string>()
  const stores: StorePlan[] = []
  const bySlot = new Map(input.points.map((point) => [point.point, point]))
  const off = machine.audit.bytes === 0 || machine.audit.milliseconds === 0
  const until = performance.now() + machine.audit.milliseconds
  let bytesLeft = machine.audit.bytes
  let storesLeft = plan.stores.filter((store) => store.mode === 'tracked').length
  for (const planned of plan.stores) {
    const before = parent === undefined ? undefined : storeRecord(parent, planned.name)
    const from = trust.get(planned.name)?.auditedTo ?? 0
    auditedTo.set(planned.name, from)
    const { store, sourceKey, changed } = asked.find((entry) => entry.store.name === planned.name) ?? {}
    if (off || planned.mode !== 'tracked' || !parent || !before || !store || !sourceKey || !changed) {
      stores.push(planned)
      continue
    }
    const { next, readBytes, missed } = await auditStore({
      store,
      sourceKey,
      changed,
      parent: new ParentDigests(
        () => StoreChain.open(input.shelf, parent, planned.name, bySlot),
        sizeChangeRanges(before.sizeBytes, store.sizeBytes),
      ),
      from,
      budget: { bytes: bytesLeft / storesLeft, milliseconds: (until - performance.now()) / storesLeft },
      pool: input.environment.pool,
      signal: input.signal,
    })
    bytesLeft = Math.max(0, bytesLeft - readBytes)
    storesLeft--
    auditedTo.set(planned.name, next)
    if (missed.count === 0) {
      stores.push(planned)
      continue
    }
    const what = missed.describe(store.sizeBytes)
    caught.set(planned.name, what)
    stores.push({
      name: planned.name,
      mode: 'compared',
      reason: `compared with point #${parent.point}: its tracker ${what}`,
    })
  }
  return { plan: { ...plan, stores }, caught, auditedTo }
}
