/** Rows of one window's extent table: columns of equal length, ascending by `start`, never overlapping. */
export interface ExtentColumns {
  readonly count: number
  /** First sector, counted from the window's start. */
  readonly start: Uint32Array
  readonly sectors: Uint32Array
  /** KIND_DATA or KIND_ZERO. */
  readonly kind: Uint32Array
  /** The frame that holds the content; 0xFFFFFFFF for zero. */
  readonly frame: Uint32Array
  /** First sector of the content within the frame's content. */
  readonly at: Uint32Array
}

/** Runs of one window's digest table: ascending by `first`, never overlapping. */
export interface DigestColumns {
  readonly count: number
  /** First digest block, counted from the window's start. */
  readonly first: Uint32Array
  readonly blocks: Uint32Array
  /** STATE_DIGEST, STATE_ZERO, STATE_UNKNOWN or STATE_PARTLY. */
  readonly state: Uint32Array
  /** 16 bytes for each block of the runs with STATE_DIGEST or STATE_PARTLY, in order. */
  readonly digests: Uint8Array
}

/** Both tables of one window of one store in one archive. */
export interface WindowTables {
  readonly extents: ExtentColumns
  readonly runs: DigestColumns
}
