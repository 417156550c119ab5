/**
 * What a worker makes of one job: a piece of a store, ready to be written. Chunks come in ascending store order; a
 * chunk's extents and runs ascend, and so do those of all of a store's chunks together. Posted between threads.
 */
export interface Chunk {
  /** One zstd frame with the content of all data extents, back to back; null when there is none. */
  readonly frame: Uint8Array | null
  /** Bytes of content in the frame: a multiple of 512, at most 1 MiB. */
  readonly contentBytes: number
  /**
   * Rows of four: offset and length in bytes, kind (1 data, 2 zero), and the byte within the content where a data
   * extent's bytes begin. Multiples of 512; only the last length of a store may be odd, its content is filled up.
   */
  readonly extents: Float64Array
  /** Rows of three: first digest block counted from the store's start, count, state (1 digest, 2 zero, 3 unknown). */
  readonly runs: Float64Array
  /** 16 bytes for each block of the runs with state 1, in order. */
  readonly digests: Uint8Array
}
