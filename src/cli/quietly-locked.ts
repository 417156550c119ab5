import { RefpointError } from '../model/errors.js'

/**
 * A machine was found locked, and the command line says that this is nothing to talk about: the run before is still
 * going. Ends the program with the status of `locked`, and not a word.
 */
export class QuietlyLocked extends RefpointError {
  override readonly name = 'QuietlyLocked'

  constructor(cause: RefpointError) {
    const { hint } = cause
    super(cause.code, cause.message, { ...(hint === undefined ? {} : { hint }), fields: cause.fields, cause })
  }
}

/** What to throw for an error of a run: once is quiet with `--quiet-if-running`, and again is told as that. */
export function toldAgain(
  error: unknown,
  timesSkipped: number,
  { quietIfRunning }: { readonly quietIfRunning?: boolean },
): unknown {
  if (!(error instanceof RefpointError) || error.code !== 'locked') return error
  if (timesSkipped <= 1) return quietIfRunning === true ? new QuietlyLocked(error) : error
  return new RefpointError('locked', `${error.message}; this is run number ${timesSkipped} in a row that finds it so`, {
    hint: error.hint ?? 'Look whether the run that holds it gets on.',
    fields: { ...error.fields, timesSkipped },
    cause: error,
  })
}
