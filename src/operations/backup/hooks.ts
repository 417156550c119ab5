/** How a run ended, for the hook that runs after it. */
export interface HookOutcome {
  readonly result: 'done' | 'failed'
  /** The point that was committed; null where none was. */
  readonly point: number | null
  readonly error: unknown
}

/**
 * What a user wants done around a backup, while the machine is locked: a run that finds it locked runs neither. `after`
 * follows every `before`, also one that failed.
 */
export interface RunHooks {
  /** @throws RefpointError `hook`: the run fails, and no checkpoint is taken; an abort with the signal's reason. */
  before(signal: AbortSignal): Promise<void>
  /** @throws RefpointError `hook`, which is told as a warning: what was committed stays. Not ended by an abort. */
  after(outcome: HookOutcome): Promise<void>
}
