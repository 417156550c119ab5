/** A run of a meta context: bytes, and the context's status flags. */
export interface StatusRun {
  readonly length: number
  readonly flags: number
}

/** What an export can be asked about besides its bytes: `base:allocation` and contexts of its own. */
export interface MetaContext {
  readonly name: string
  /** Runs that cover from `offset` on, at least one, at most `maxRuns`, together at most `length` bytes. */
  status(offset: number, length: number, maxRuns: number): Promise<readonly StatusRun[]>
}

/**
 * One export of the NBD server: the bytes behind it. Offsets and lengths are bytes, already checked against the size.
 * Calls overlap freely, from several connections; a write that resolved is seen by every later read.
 */
export interface Backend {
  readonly sizeBytes: number
  readonly readOnly: boolean
  readonly blockSizes: { readonly minimum: number; readonly preferred: number; readonly maximum: number }
  /** Fills all of `into`. */
  read(into: Uint8Array, offset: number): Promise<void>
  /** Writes consecutive pieces from `offset` on; they are the caller's again when it resolves. */
  write(pieces: readonly Uint8Array[], offset: number): Promise<void>
  /** Makes a range read as zeroes; `punch` allows to free the space. */
  zero(offset: number, length: number, options: { readonly punch: boolean }): Promise<void>
  /** The guest says that it no longer needs the range; what it reads then is the backend's choice. */
  trim(offset: number, length: number): Promise<void>
  /** Everything that resolved before this call is durable when it resolves. */
  flush(): Promise<void>
  readonly contexts: readonly MetaContext[]
  /** A context that is not listed but may be asked for by name, such as changes since a change ID. */
  openContext(name: string): Promise<MetaContext | undefined>
}
