import { storeRecord } from '../../model/chain.js'
import type { PointManifest } from '../../model/manifest.js'
import type { BackupPlan, StorePlan } from '../../model/planner.js'
import { sizeChangeRanges } from '../../model/ranges.js'
import { type ArchiveShelf, StoreChain } from '../chain-reader.js'
import type { ReadEnvironment } from '../environment.js'
import { auditStore } from './audit.js'
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
  readonly shelf: ArchiveShelf
  readonly signal: AbortSignal
}

export interface AuditOutcome {
  /** The plan, with every store whose tracker was caught compared instead. */
  readonly plan: PointPlan
  /** What to tell, loudly; empty when nothing was found. */
  readonly distrusted: readonly string[]
  /** Store name to where its next audit goes on. */
  readonly auditedTo: ReadonlyMap<string, number>
}

/** Audits the tracked stores of a plan; the budget is the machine's, shared by its stores. */
export async function auditStores(input: AuditStoresInput): Promise<AuditOutcome> {
  const { machine, plan, parent, asked } = input
  const auditedTo = new Map<string, number>()
  const stores: StorePlan[] = []
  const distrusted: string[] = []
  const bySlot = new Map(input.points.map((point) => [point.point, point]))
  const tracked = plan.stores.filter((store) => store.mode === 'tracked').length
  for (const planned of plan.stores) {
    const before = parent === undefined ? undefined : storeRecord(parent, planned.name)
    auditedTo.set(planned.name, before?.auditedTo ?? 0)
    const { store, sourceKey, changed } = asked.find((entry) => entry.store.name === planned.name) ?? {}
    const off = machine.audit.bytes === 0 || machine.audit.milliseconds === 0
    if (off || planned.mode !== 'tracked' || !parent || !before || !store || !sourceKey || !changed) {
      stores.push(planned)
      continue
    }
    const result = await auditStore({
      store,
      sourceKey,
      changed: await changed(),
      parent: new ParentDigests(
        () => StoreChain.open(input.shelf, parent, planned.name, bySlot),
        sizeChangeRanges(before.sizeBytes, store.sizeBytes),
      ),
      from: before.auditedTo,
      budget: { bytes: machine.audit.bytes / tracked, milliseconds: machine.audit.milliseconds / tracked },
      pool: input.environment.pool,
      signal: input.signal,
    })
    auditedTo.set(planned.name, result.next)
    if (result.mismatches.length === 0) {
      stores.push(planned)
      continue
    }
    const first = Math.min(...result.mismatches.slice(0, 1000))
    const what =
      `the tracker of store '${planned.name}' called ${result.mismatches.length} of ${result.checkedBlocks} audited blocks ` +
      `unchanged that are not (first: byte ${first * 65_536})`
    distrusted.push(`${what}; the whole store was compared instead, so this point is right`)
    stores.push({ name: planned.name, mode: 'compared', reason: `compared with point #${parent.point}: ${what}` })
  }
  return { plan: { ...plan, stores }, distrusted, auditedTo }
}
