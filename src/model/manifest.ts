import type { Consistency } from './reference-point.js'

/** How an incremental found its extents, or `full` where a store's whole content is in the archive. */
export type StoreMode = 'full' | 'tracked' | 'compared' | 'refined'

/** An object of the repository as stored: its name below the repository, size and SHA-256 (hex). */
export interface ObjectRecord {
  readonly name: string
  readonly bytes: number
  readonly sha256: string
}

export interface StoreRecord {
  readonly name: string
  readonly kind: 'disk'
  readonly sizeBytes: number
  readonly mode: StoreMode
  /** Why this mode, for a person: "first point", "tracking lost: …". */
  readonly reason: string
  readonly changeId: string | null
  /** Counts of extent-table rows. */
  readonly dataExtents: number
  readonly zeroExtents: number
  /** Bytes of all extents of this point, data and zero. */
  readonly changedBytes: number
  /** Bytes of data extents before compression, and of their frames after it. */
  readonly contentBytes: number
  readonly storedBytes: number
  /** Hex, 64 digits: see FORMAT.md, "Content sum"; null where an unknown digest makes it absent. */
  readonly contentSum: string | null
  /** Digest block at which the next audit goes on; the rotation survives restarts in here. */
  readonly auditedTo: number
  /** Why the tracker's word on this store is not taken from here on; null where it is. */
  readonly distrust: Distrust | null
}

/** A tracker that called blocks unchanged that were not: not believed until it has been audited whole. */
export interface Distrust {
  /** The slot of the point or the audit that caught it last. */
  readonly since: number
  /** For a person: how many blocks, and which. */
  readonly what: string
}

/** A recovery point's manifest; its appearance in its slot is the commit. */
export interface PointManifest {
  readonly format: 1
  readonly requires: readonly string[]
  readonly optional: readonly string[]
  readonly type: 'point'
  readonly repositoryId: string
  readonly machine: string
  readonly machineUuid: string
  readonly point: number
  /** An earlier slot, or null for a point that needs no other. */
  readonly parent: number | null
  /** Random per commit attempt: tells on "exists" whether the claim was ours. */
  readonly nonce: string
  /** The slot of the fold that wrote this revision of the manifest; absent in the manifest that the backup wrote. */
  readonly revision?: number
  /**
   * ISO 8601, UTC: when all stores of this chain were last read from the source as a whole; folding does not change it.
   * Absent in manifests that did not know of it.
   */
  readonly wholeAt?: string
  readonly tracker: string
  /** ISO 8601, UTC: the instant of the checkpoint, and when the run began. */
  readonly time: string
  readonly startedAt: string
  readonly durationMs: number
  readonly consistency: Consistency
  readonly stores: readonly StoreRecord[]
  readonly archive: ObjectRecord
  readonly warnings: readonly string[]
  readonly agent: string
  readonly signatures: readonly never[]
}

/** What an audit found out about a store's tracker. */
export interface AuditedStore {
  readonly name: string
  readonly auditedTo: number
  readonly distrust: Distrust | null
  /** Digest blocks that were compared, and those of them that were not what the tracker made them out to be. */
  readonly checkedBlocks: number
  readonly missedBlocks: number
  /** Whether every block was checked that the tracker called unchanged. */
  readonly whole: boolean
}

/**
 * An audit apart from any backup. It takes a slot, so that leases fence it as they fence points. Later points carry on
 * what it says: once there is one, nobody needs it any more.
 */
export interface AuditManifest {
  readonly format: 1
  readonly requires: readonly string[]
  readonly type: 'audit'
  readonly repositoryId: string
  readonly machine: string
  readonly machineUuid: string
  readonly point: number
  /** The point whose digests the source was held against. */
  readonly against: number
  readonly nonce: string
  readonly tracker: string
  /** ISO 8601, UTC: the instant of the checkpoint. */
  readonly time: string
  readonly durationMs: number
  readonly stores: readonly AuditedStore[]
  readonly agent: string
}

/** A slot burnt by whoever took over an expired lease, so that a sleeper that wakes can commit nothing. */
export interface AbortedManifest {
  readonly format: 1
  readonly type: 'aborted'
  readonly point: number
  readonly nonce: string
  readonly time: string
  readonly reason: string
}

/**
 * A prune, in the slot that it claimed. It says all at once what is gone and which manifests count, so that a whole prune
 * happens or does not. Cumulative: the newest one counts, alone.
 */
export interface FoldManifest {
  readonly format: 1
  readonly requires: readonly string[]
  readonly optional: readonly string[]
  readonly type: 'fold'
  readonly machine: string
  readonly machineUuid: string
  readonly point: number
  readonly nonce: string
  readonly time: string
  readonly agent: string
  /** Ranges of slots, first and last, in which nothing is any more, whatever objects may be left of them. */
  readonly dropped: readonly (readonly [number, number])[]
  /** Slot and revision: points whose manifest is `<slot>.r<revision>.json`; of all others `<slot>.json` counts. */
  readonly revisions: readonly (readonly [number, number])[]
}

export type SlotManifest = PointManifest | AuditManifest | AbortedManifest | FoldManifest
