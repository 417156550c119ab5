/**
 * Where a checkpoint's bytes are, small and serialisable, so that it can be posted to a worker, which opens a reader
 * of its own. Each kind is produced by one tracker and opened by that tracker's `openSource`.
 */
export type Source = FileSource | LayersSource

/** A file or block device whose bytes are the store's. Bytes past its end, up to `sizeBytes`, are zeroes. */
export interface FileSource {
  readonly kind: 'file'
  readonly path: string
  readonly sizeBytes: number
}

/** Frozen layers of a tracked disk, lowest first; see `trackers/disk`. */
export interface LayersSource {
  readonly kind: 'layers'
  readonly sizeBytes: number
  readonly blockBytes: number
  readonly layers: readonly { readonly data: string; readonly map: string }[]
}

/** Reads a source. One reader is used by one thread, and for one read at a time. */
export interface SourceReader {
  /** Fills all of `into` with the bytes at `offset`; bytes past the store's end are zeroes. */
  read(into: Uint8Array, offset: number): Promise<void> | void
  close(): Promise<void> | void
}
