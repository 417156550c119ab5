/**
 * Where a checkpoint's bytes are, small and serialisable, so that it can be posted to a worker, which opens a reader
 * of its own. `src/worker.ts` knows who opens which kind.
 */
export type Source = FileSource | LayersSource | NbdSource

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

/** An export of an NBD server on a unix socket of this host, from whose start on the store's bytes are. */
export interface NbdSource {
  readonly kind: 'nbd'
  readonly sizeBytes: number
  /** The server's unix socket. */
  readonly path: string
  readonly exportName: string
  /** What to tell the user when the server refuses a read: what that means for this layer, and what to do. */
  readonly refusalHint: string
}

/** For messages: the path of what is read. */
export function describeSource(source: Source): string {
  return source.kind === 'layers' ? (source.layers.at(-1)?.data ?? 'a disk without layers') : source.path
}

/** Reads a source. One reader is used by one thread, and for one read at a time. */
export interface SourceReader {
  /** Fills all of `into` with the bytes at `offset`; bytes past the store's end are zeroes. */
  read(into: Uint8Array, offset: number): Promise<void> | void
  close(): Promise<void> | void
}
