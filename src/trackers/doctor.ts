import type { ReferencePoint } from '../model/reference-point.js'
import type { Owner } from './tracker.js'

/**
 * - `good`: as it should be
 * - `note`: worth knowing; backups are right all the same
 * - `problem`: backups fail, or are less than they could be, until somebody does something
 */
export type FindingLevel = 'good' | 'note' | 'problem'

export interface Finding {
  readonly level: FindingLevel
  /** What kind of thing it is about, for programs: `version`, `disk`, `tracking`, `agent`, `room`, `leftovers`, … */
  readonly topic: string
  /** The store that it is about; null for the machine. */
  readonly store: string | null
  readonly message: string
  readonly hint?: string
}

export interface ExamineOptions {
  /** Undefined where the machine was never backed up: then nothing of its own can be there. */
  readonly owner: Owner | undefined
  /** The last committed reference point. */
  readonly previous: ReferencePoint | undefined
  /** As a checkpoint has it (`CheckpointOptions.recall`). */
  readonly recall: (path: string) => Promise<Uint8Array | undefined>
  readonly signal: AbortSignal
}

/**
 * Looks whether a machine can be backed up, and what its incrementals will cost. Made beside the tracker of the same
 * settings. It holds the source while it looks, as a run does.
 */
export interface Doctor extends AsyncDisposable {
  /**
   * @throws RefpointError `locked` while a run has the machine; `tracker` when nothing can be seen of it.
   */
  examine(options: ExamineOptions): Promise<readonly Finding[]>

  /**
   * Removes what killed runs of the owner left, and nothing else; what `previous` needs stays. Returns what went. To be
   * called while no run of this owner is going on, as its lease ensures.
   */
  fix(options: ExamineOptions & { readonly owner: Owner }): Promise<readonly string[]>
}
