/** What is asked of a QMP client here: commands that only look. */
export interface QmpCommands {
  readonly version: { readonly major: number; readonly minor: number; readonly micro: number; readonly package: string }
  execute(command: string, args?: object): Promise<unknown>
}
