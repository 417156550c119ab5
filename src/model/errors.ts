/**
 * What went wrong, as a value a program can act on. `main.ts` maps the code to the exit status.
 *
 * - `usage`, `config`: the command line or the configuration is wrong (exit 2)
 * - `machines-failed`: some of several machines failed; each was reported (3)
 * - `attention`: nothing failed, and somebody should look: a backup is overdue, say (4)
 * - `no-repository`: none there, or one of a format this version does not know (10)
 * - `locked`: another run or server holds what this one needs (11)
 * - `wrong-key`: encrypted for somebody else (12)
 * - `damaged`: stored bytes are not what was written (13)
 * - `tracker`: the block-tracking layer failed or can't do what was asked (14)
 * - `hook`: a program of the user's that goes before or after a run failed (1)
 * - `io`: the system refused a read or a write: full, read-only, permission (1)
 * - `commit-unknown`: a commit may or may not have happened; nothing was released (1)
 * - `cancelled`: by a signal (130)
 */
export type ErrorCode =
  | 'usage'
  | 'config'
  | 'machines-failed'
  | 'attention'
  | 'no-repository'
  | 'locked'
  | 'wrong-key'
  | 'damaged'
  | 'tracker'
  | 'hook'
  | 'io'
  | 'commit-unknown'
  | 'cancelled'

export interface ErrorDetails {
  /** What the user can do about it; one or two plain sentences. */
  readonly hint?: string
  readonly cause?: unknown
  /** Structured facts for `--json`: the machine, the store, the file, the expected and the found value. */
  readonly fields?: Readonly<Record<string, unknown>>
}

/** The one error class of refpoint. The message says what happened and to what. */
export class RefpointError extends Error {
  override readonly name: string = 'RefpointError'
  readonly code: ErrorCode
  readonly hint: string | undefined
  readonly fields: Readonly<Record<string, unknown>>

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.code = code
    this.hint = details.hint
    this.fields = details.fields ?? {}
  }
}

/** Why a tracker can't say what changed since a change ID. */
export type ExpiredReason = 'unknown' | 'inconsistent' | 'other-disk' | 'resized' | 'untracked'

/**
 * Thrown by a tracker that can't vouch for an answer. Not a failure of the run: the planner compares instead,
 * and shows `explanation` to the user as the reason.
 */
export class ChangeIdExpired extends RefpointError {
  override readonly name = 'ChangeIdExpired'
  readonly reason: ExpiredReason
  readonly explanation: string

  constructor(reason: ExpiredReason, explanation: string) {
    super('tracker', `change ID expired: ${explanation}`)
    this.reason = reason
    this.explanation = explanation
  }
}
