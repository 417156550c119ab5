import type { Extent, Range } from '../model/extent.js'
import type { Consistency, ReferencePoint } from '../model/reference-point.js'
import type { Source } from '../model/source.js'

/** Who a checkpoint and its leftovers belong to, so that two repositories can back up one machine. */
export interface Owner {
  readonly repositoryId: string
  readonly machineUuid: string
}

export interface StoreInfo {
  /** Unique within the machine; `[a-z0-9][a-z0-9._-]*`, at most 64 characters. */
  readonly name: string
  readonly sizeBytes: number
  readonly logicalBlockBytes: number
}

export interface TrackerCapabilities {
  /** The smallest piece that `changedExtents` tells apart, in bytes; 0 where nothing is tracked. */
  readonly granularityBytes: number
  /** The levels a checkpoint of this tracker can have, best first. */
  readonly consistency: readonly Consistency[]
  /** Whether it backs up a machine that runs, one that is off, or both. */
  readonly modes: readonly ('live' | 'offline')[]
}

export interface CheckpointOptions {
  readonly owner: Owner
  /** The last committed reference point. Must stay answerable until `release` is called with a newer one. */
  readonly previous: ReferencePoint | undefined
  /**
   * The content of one of the machine's own files (`Checkpoint.files`) in the newest point that has it; undefined where
   * none has. Read when asked for; may be called until the checkpoint is taken.
   */
  readonly recall: (path: string) => Promise<Uint8Array | undefined>
  readonly signal: AbortSignal
}

/**
 * A block-tracking layer for one machine, made by one factory because its parts must match each other.
 *
 * Held to `test/conformance/tracker.ts`. In all of it: offsets and lengths are bytes; extents come in ascending order
 * and do not overlap; every call may be retried after it threw; an abort rejects with the signal's reason, unwrapped.
 */
export interface Tracker extends AsyncDisposable {
  readonly capabilities: TrackerCapabilities

  /** The machine's stores as they are now, in a stable order. */
  stores(): Promise<readonly StoreInfo[]>

  /**
   * Freezes **one instant across all stores**, first cleaning what a killed run of the same owner left.
   *
   * A run that fails after this and never calls `release` loses nothing: `previous` stays answerable.
   * @throws RefpointError `locked` when another run or server holds the source, `tracker` when there is no instant to
   * be had (busy, torn and not allowed, layer gone).
   */
  checkpoint(options: CheckpointOptions): Promise<Checkpoint>

  /**
   * Says that `committed` is durable in the owner's repository, so that whatever kept older reference points of the
   * same owner answerable may go. Idempotent.
   */
  release(committed: ReferencePoint, owner: Owner): Promise<void>
}

/** The most that the files of one machine (`Checkpoint.files`) hold together, in bytes, and how many there may be. */
export const MACHINE_FILES_LIMIT = { bytes: 96 * 1024 ** 2, count: 256 } as const

/**
 * A file of the machine itself that no store holds: how it is started, its firmware's variables, its TPM. It is small,
 * and `content` is its state at the checkpoint, whatever happens to the original afterwards.
 */
export interface MachineFile {
  /** Where it goes below `config/`: relative, `/` between its parts, none of them `.` or `..`; unique. */
  readonly path: string
  /** At most 64 MiB. */
  readonly content: Uint8Array
}

/** A temporary stable view of all stores at one instant. Disposing it ends the view and is safe to call twice. */
export interface Checkpoint extends AsyncDisposable {
  /** The instant, by the host's clock. Informational: order comes from slots, never from clocks. */
  readonly time: Date
  readonly consistency: Consistency
  readonly stores: readonly CheckpointStore[]
  /** What the user should know about this checkpoint (a fallback taken, a level lower than possible); often empty. */
  readonly warnings: readonly string[]
  /**
   * What of the machine itself goes into the archive beside its stores, within MACHINE_FILES_LIMIT; often none. May
   * hold secrets, as a command line does: never printed.
   */
  readonly files: readonly MachineFile[]

  /**
   * Called after the last read and before the commit.
   * @throws RefpointError `tracker` when what was read may not be the instant after all (a live file was written).
   */
  assertStable(): Promise<void>
}

export interface CheckpointStore extends StoreInfo {
  /** Names this instant of this store; opaque to everyone but the tracker. Undefined where nothing is tracked. */
  readonly changeId: string | undefined

  /** The checkpoint's bytes, whatever is written meanwhile: every worker opens a reader of its own from this. */
  readonly source: Source

  /**
   * What may have changed between `since` and this checkpoint: may over-report, never under-reports, and never
   * answers "nothing" because it does not know. Only ranges: what is in them is `allocatedExtents`' question.
   * The promise settles before the first page is read, so that a planner can decide on it.
   * @throws ChangeIdExpired with the tracker's reason when it can't vouch.
   */
  changedExtents(since: string, options: { readonly signal: AbortSignal }): Promise<AsyncIterable<readonly Range[]>>

  /**
   * Covers `range` without gaps, lazily paged: `zero` only where the layer *guarantees* that the bytes read as
   * zeroes, `data` everywhere else. Asked only within what will be read.
   */
  allocatedExtents(range: Range, options: { readonly signal: AbortSignal }): AsyncIterable<readonly Extent[]>
}
