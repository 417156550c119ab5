import type { ExpiredReason } from './errors.js'
import type { Distrust, PointManifest, StoreMode } from './manifest.js'
import { storeRecord } from './chain.js'

/** What the user asked for: incremental where possible, everything, or incremental or nothing. */
export type BackupRequest = 'auto' | 'full' | 'incremental'

/** What is known about one store when its mode is decided; all evidence, no I/O. */
export interface StoreEvidence {
  readonly name: string
  readonly sizeBytes: number
  /** Whether the tracker gives this store change IDs at all. */
  readonly keepsChangeIds: boolean
  /** The tracker's answer to "can you say what changed since the parent's change ID?"; undefined: it was not asked. */
  readonly tracked: 'yes' | { readonly expired: ExpiredReason; readonly explanation: string } | undefined
  /** Why the tracker's answer is not to be believed although it gives one; null where it is. */
  readonly distrust: Distrust | null
}

export interface PlanInput {
  readonly request: BackupRequest
  /** The newest point that is restorable, or undefined. */
  readonly parent: PointManifest | undefined
  /** Why there is no usable parent although there are points; shown to the user. */
  readonly parentProblem: string | undefined
  /** Why this point is to be a full though nobody asked for it; undefined when it is not. */
  readonly fullDue: string | undefined
  readonly stores: readonly StoreEvidence[]
}

export interface StorePlan {
  readonly name: string
  readonly mode: Exclude<StoreMode, 'refined'>
  /** For a person; goes into the manifest. */
  readonly reason: string
}

export type BackupPlan =
  | { readonly kind: 'point'; readonly parent: number | null; readonly stores: readonly StorePlan[] }
  | { readonly kind: 'refused'; readonly reason: string }

/**
 * Decides how every store of a machine is backed up, and why. Incremental wherever the parent has the store: by the
 * tracker's answer, else by comparing contents with the parent's digests. Never a silent full.
 */
export function planBackup(input: PlanInput): BackupPlan {
  const { request, parent } = input
  if (request === 'full') {
    return { kind: 'point', parent: null, stores: input.stores.map((s) => full(s.name, 'asked for by --full')) }
  }
  if (request === 'auto' && input.fullDue !== undefined) {
    const why = input.fullDue
    return { kind: 'point', parent: null, stores: input.stores.map((s) => full(s.name, why)) }
  }
  if (parent === undefined) {
    const why = input.parentProblem ?? 'first point of this machine'
    if (request === 'incremental') return { kind: 'refused', reason: why }
    return { kind: 'point', parent: null, stores: input.stores.map((s) => full(s.name, why)) }
  }
  const stores = input.stores.map((store) => planStore(store, parent))
  const allFull = stores.every((store) => store.mode === 'full')
  if (request === 'incremental') {
    const missing = stores.filter((store) => store.mode === 'full')
    if (missing.length > 0) {
      return { kind: 'refused', reason: missing.map((s) => `store '${s.name}': ${s.reason}`).join('; ') }
    }
  }
  return { kind: 'point', parent: allFull ? null : parent.point, stores }
}

function planStore(store: StoreEvidence, parent: PointManifest): StorePlan {
  const before = storeRecord(parent, store.name)
  if (before === undefined) return full(store.name, `new store, not in point #${parent.point}`)
  const resized =
    before.sizeBytes === store.sizeBytes ? '' : `; resized from ${before.sizeBytes} to ${store.sizeBytes} bytes`
  if (store.tracked === 'yes' && store.distrust !== null) {
    const why = `its tracker is not trusted since #${store.distrust.since}, when it ${store.distrust.what}`
    return { name: store.name, mode: 'compared', reason: `compared with point #${parent.point}: ${why}${resized}` }
  }
  if (store.tracked === 'yes') {
    return { name: store.name, mode: 'tracked', reason: `changes since point #${parent.point}${resized}` }
  }
  if (store.tracked === undefined) {
    const why = store.keepsChangeIds ? 'nothing tracked its changes then' : 'nothing tracks its changes'
    return { name: store.name, mode: 'compared', reason: `compared with point #${parent.point}: ${why}${resized}` }
  }
  const why =
    store.tracked.expired === 'untracked' ? store.tracked.explanation : `tracking lost: ${store.tracked.explanation}`
  return { name: store.name, mode: 'compared', reason: `compared with point #${parent.point}: ${why}${resized}` }
}

function full(name: string, reason: string): StorePlan {
  return { name, mode: 'full', reason }
}
