/** A tracked disk as it stands, for people. Sizes are bytes. */
export interface DiskSummary {
  readonly folder: string
  readonly uuid: string
  readonly sizeBytes: number
  readonly blockBytes: number
  /** What its files take on the host. */
  readonly allocatedBytes: number
  /** Counts checkpoints, of people and of backups. */
  readonly generation: number
  /** The user's checkpoints, oldest first; `time` is ISO 8601, empty where it is not known. */
  readonly checkpoints: readonly { readonly name: string; readonly time: string }[]
  /** Layers: one is the base; more are overlays of checkpoints, or wait to be merged. */
  readonly layers: number
  /** The process that serves it now; null for none. */
  readonly serverPid: number | null
}

/** Where disks are served: a unix socket, or TCP on a loopback address. */
export type ServeAddress = { readonly path: string } | { readonly host: string; readonly port: number }

export interface ServedDisks extends AsyncDisposable {
  /** One for each disk: what NBD clients take, such as `nbd+unix:///root?socket=/run/root.sock`. */
  readonly exports: readonly { readonly folder: string; readonly uri: string }[]
}

/** What `refpoint disk` can do; the composition root binds it to the tracked disk. */
export interface DiskActions {
  create(folder: string, options: { readonly sizeBytes: number; readonly blockBytes?: number }): Promise<void>
  importImage(folder: string, image: string, options: { readonly blockBytes?: number }): Promise<void>
  serve(folders: readonly string[], address: ServeAddress): Promise<ServedDisks>
  /** Keeps the state of all of them at one instant; through their server, where they are served. As the following. */
  checkpoint(folders: readonly string[], name: string): Promise<{ readonly time: Date }>
  rollback(folder: string, name: string): Promise<void>
  /** `pending`: a backup still reads what is to be merged; it is done after that. */
  merge(folder: string, name: string): Promise<{ readonly pending: boolean }>
  resize(folder: string, sizeBytes: number): Promise<void>
  summary(folder: string): Promise<DiskSummary>
  /** The disks directly below a folder, and itself if it is one, by name. */
  list(folder: string): Promise<readonly DiskSummary[]>
}
