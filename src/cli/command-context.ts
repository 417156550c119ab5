import type { Command } from 'commander'
import type { Output } from './output.js'

/** What every command is given by whoever puts the program together. */
export interface CommandContext {
  /** Made from the options of the command, for `--json` may stand before or after it. */
  output(command: Command): Output
  /** Aborts when the program is told to stop. */
  readonly signal: AbortSignal
}
