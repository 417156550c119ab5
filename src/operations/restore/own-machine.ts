/** Where a store of a point was restored to. */
export interface StorePlace {
  readonly store: string
  /** Its file's name in the folder that was restored to. */
  readonly file: string
  readonly format: string
}

/** The script that starts a restored machine, or why there can be none. */
export type StartScript =
  { readonly kind: 'script'; readonly text: string } | { readonly kind: 'refused'; readonly reasons: readonly string[] }

/** What the machine's own files in a point say of it. */
export interface OwnMachine {
  /** The format that a store's image had; undefined where that is not known. */
  format(store: string): string | undefined
  startScript(stores: readonly StorePlace[], point: { readonly point: number; readonly time: string }): StartScript
}

/**
 * Reads the machine's own files (`Checkpoint.files`), which only the tracker that made them understands. `read` gives
 * the content of a file of the point, undefined where there is none of that path. Resolves to undefined where no
 * tracker left any; never fails over what it can't understand.
 */
export type ReadOwnMachine = (
  read: (path: string) => Promise<Uint8Array | undefined>,
) => Promise<OwnMachine | undefined>
