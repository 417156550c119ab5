import type { Files } from '../../files/files.js'
import { loadNative, type Native } from '../../files/native.js'
import { nodeFiles } from '../../files/node-files.js'
import { ChangeIdExpired, RefpointError } from '../../model/errors.js'
import type { Range } from '../../model/extent.js'
import type { Checkpoint, CheckpointStore, Tracker } from '../tracker.js'
import { parseChangeId } from './change-id.js'
import { type DiskAccess, accessDisks } from './disk-access.js'
import { readDiskFile } from './disk-file.js'
import type { DiskCheckpoint, FrozenDisk } from './disk-set.js'
import { FrozenStack } from './frozen-stack.js'
import { readNonce } from './generations.js'

const logicalBlockBytes = 512
const defaultGranularityBytes = 16 * 1024

export interface DiskTrackerOptions {
  /** Store name to disk folder. */
  readonly stores: Readonly<Record<string, string>>
  readonly files?: Files
}

/**
 * The tracker of embedded disks: of a served machine through its server's control socket, of one that is off by opening
 * the disks here. Every change ID ever given stays answerable, so there is nothing to release.
 */
export function createDiskTracker({ stores, files = nodeFiles }: DiskTrackerOptions): Tracker {
  const names = Object.keys(stores)
  const folders = Object.values(stores)
  return {
    capabilities: {
      granularityBytes: defaultGranularityBytes,
      consistency: ['offline', 'crash'],
      modes: ['live', 'offline'],
    },
    stores: () =>
      Promise.all(
        names.map(async (name, index) => {
          const { sizeBytes } = await readDiskFile(files, folders[index] ?? '')
          return { name, sizeBytes, logicalBlockBytes }
        }),
      ),
    async checkpoint({ signal }) {
      signal.throwIfAborted()
      const native = await loadNative()
      const access = await accessDisks(folders, { files })
      try {
        const taken = await access.checkpoint()
        signal.throwIfAborted()
        return new TrackedCheckpoint({ access, taken, names, files, native })
      } catch (error) {
        await access[Symbol.asyncDispose]()
        throw error
      }
    },
    release: () => Promise.resolve(),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  }
}

interface TrackedParts {
  readonly access: DiskAccess
  readonly taken: DiskCheckpoint
  readonly names: readonly string[]
  readonly files: Files
  readonly native: Native | undefined
}

class TrackedCheckpoint implements Checkpoint {
  readonly time: Date
  readonly consistency
  readonly stores: readonly CheckpointStore[]
  readonly warnings: readonly string[]
  readonly files = []
  readonly #access: DiskAccess
  readonly #taken: DiskCheckpoint
  readonly #stores: readonly TrackedStore[]
  #disposed = false

  constructor({ access, taken, names, files, native }: TrackedParts) {
    this.#access = access
    this.#taken = taken
    this.time = taken.time
    this.consistency = taken.consistency
    this.warnings =
      native === undefined ? ['native calls are not available: holes of the disks are read like data'] : []
    this.#stores = taken.disks.map((disk, index) => new TrackedStore(names[index] ?? '', disk, files, native))
    this.stores = this.#stores
  }

  async assertStable(): Promise<void> {
    this.#access.assertHeld()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#disposed) return
    this.#disposed = true
    for (const store of this.#stores) store.close()
    this.#taken.release()
    await this.#access[Symbol.asyncDispose]()
  }
}

class TrackedStore implements CheckpointStore {
  readonly name: string
  readonly sizeBytes: number
  readonly logicalBlockBytes = logicalBlockBytes
  readonly changeId: string
  readonly source
  readonly #folder: string
  readonly #files: Files
  readonly #native: Native | undefined
  #stack: FrozenStack | undefined
  #closed = false

  constructor(name: string, { folder, changeId, source }: FrozenDisk, files: Files, native: Native | undefined) {
    this.name = name
    this.sizeBytes = source.sizeBytes
    this.changeId = changeId
    this.source = source
    this.#folder = folder
    this.#files = files
    this.#native = native
  }

  async changedExtents(since: string, { signal }: { readonly signal: AbortSignal }) {
    signal.throwIfAborted()
    const generation = await this.#generationOf(since)
    const stack = this.#open()
    return pages(() => stack.changedSince(generation), signal)
  }

  allocatedExtents(range: Range, { signal }: { readonly signal: AbortSignal }) {
    return pages(() => this.#open().allocated(range), signal)
  }

  /** The generation that `since` names, when it is one of this disk's and ended no later than this checkpoint. */
  async #generationOf(since: string): Promise<number> {
    const asked = parseChangeId(since)
    const own = parseChangeId(this.changeId)
    if (asked === undefined || own === undefined) {
      throw new ChangeIdExpired('unknown', 'it is not a change ID of a tracked disk')
    }
    if (asked.uuid !== own.uuid) throw new ChangeIdExpired('other-disk', 'it belongs to another disk')
    if (asked.generation > own.generation) {
      throw new ChangeIdExpired('unknown', 'the disk was set back to a state before that point')
    }
    const nonce = await readNonce(this.#files, this.#folder, asked.generation)
    if (nonce === asked.nonce) return asked.generation
    throw new ChangeIdExpired('unknown', 'the disk is a copy, or was set back, and went another way since that point')
  }

  #open(): FrozenStack {
    if (this.#closed) throw new RefpointError('tracker', `the checkpoint of ${this.name} has ended`)
    this.#stack ??= new FrozenStack(this.source, this.#native)
    return this.#stack
  }

  close(): void {
    this.#closed = true
    this.#stack?.close()
  }
}

/** Pages, asked for one at a time; the event loop gets its turn between them. */
async function* pages<T>(start: () => Generator<readonly T[]>, signal: AbortSignal): AsyncGenerator<readonly T[]> {
  for (const page of start()) {
    signal.throwIfAborted()
    yield page
    await new Promise((resolve) => setImmediate(resolve))
  }
}
