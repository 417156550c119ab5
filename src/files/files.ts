/**
 * The file layer under everything that must survive a power cut: the local repository, the archive writer and the
 * tracked disk do their durable work through it and through nothing else, so that tests can record the calls and
 * build every state of the disk that is legal after a crash.
 *
 * Errors are Node's own (`code: 'ENOENT'`, …); callers classify them. Offsets and lengths are bytes.
 */
export interface Files {
  /** `create`: new and empty, fails with EEXIST; `write`: must exist, read and write; `read`: must exist. */
  open(path: string, mode: 'create' | 'write' | 'read'): Promise<FileHandle>
  readFile(path: string): Promise<Uint8Array>
  exists(path: string): Promise<boolean>
  list(folder: string): Promise<readonly string[]>
  /** Creates one folder, 0700; its parent must exist. Not durable before `syncFolder(parent)`. */
  makeFolder(path: string): Promise<void>
  removeFolder(path: string): Promise<void>
  /** Atomic; replaces `to`. Not durable before `syncFolder`. */
  rename(from: string, to: string): Promise<void>
  /** A second name for a file; fails with EEXIST. Not durable before `syncFolder`. */
  link(from: string, to: string): Promise<void>
  /** Not durable before `syncFolder`. */
  unlink(path: string): Promise<void>
  /** Makes creations, renames, links and removals of names in this folder durable. */
  syncFolder(path: string): Promise<void>
}

export interface FileHandle {
  readonly path: string
  /** The descriptor, for reads, locks and native calls; never written through directly. */
  readonly fd: number
  /** Reads as much as there is up to `into.length`; returns the count, short only at the end of the file. */
  read(into: Uint8Array, offset: number): Promise<number>
  /** Writes all of it; a short write is continued, and an error leaves an unknown part written. */
  write(pieces: readonly Uint8Array[], offset: number): Promise<void>
  /** Sets the size; grown bytes read as zeroes. */
  truncate(sizeBytes: number): Promise<void>
  /** Makes a range read as zeroes, as a hole where the file system can, else by writing them. Never changes the size. */
  zero(offset: number, length: number): Promise<void>
  size(): Promise<number>
  /** fdatasync: content and size are durable when it resolves. */
  sync(): Promise<void>
  close(): Promise<void>
}
