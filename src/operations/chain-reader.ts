import type { ArchiveReader } from '../archive/reader.js'
import { FrameCache } from '../archive/frame-cache.js'
import { openArchive } from '../archive/reader.js'
import type { Codec } from '../compress/codec.js'
import { storeChain, storeRecord } from '../model/chain.js'
import { DigestWindow } from '../model/digest-window.js'
import { RefpointError } from '../model/errors.js'
import { ExtentMap } from '../model/extent-map.js'
import { blockCount, SECTOR_BYTES, WINDOW_BLOCKS, WINDOW_BYTES, WINDOW_SECTORS } from '../model/geometry.js'
import type { ObjectLocation } from '../model/location.js'
import type { PointManifest } from '../model/manifest.js'
import type { ReadRepository } from '../repository/repository.js'

/** One archive of a chain, open. */
export interface ChainArchive {
  readonly point: PointManifest
  readonly location: ObjectLocation
  readonly reader: ArchiveReader
}

/** Where a frame is stored. Bytes. */
export interface StoredFrame {
  readonly archive: ObjectLocation
  readonly offset: number
  readonly storedBytes: number
  readonly contentBytes: number
}

/** The archive at this place in a chain, as rows of an `ExtentMap` name it. */
export function archiveAt({ archives }: { readonly archives: readonly ChainArchive[] }, index: number): ChainArchive {
  const archive = archives[index]
  if (archive === undefined) throw new RangeError(`archive ${index} is not in the chain`)
  return archive
}

export function storedFrame({ location, reader: { frames } }: ChainArchive, frame: number): StoredFrame {
  return {
    archive: location,
    offset: frames.offsetOf(frame),
    storedBytes: frames.storedBytes(frame),
    contentBytes: frames.contentBytes(frame),
  }
}

/** Tables of all archives of a chain that stay decoded. */
const CACHE_BYTES = 12 * 1024 * 1024

/** Archives opened once and shared by the chains that need them. */
export class ArchiveShelf implements AsyncDisposable {
  readonly #repository: ReadRepository
  readonly #codec: Codec
  readonly #open = new Map<number, Promise<ChainArchive>>()
  readonly #cache = new FrameCache(CACHE_BYTES)

  constructor(repository: ReadRepository, codec: Codec) {
    this.#repository = repository
    this.#codec = codec
  }

  /**
   * @throws RefpointError `damaged` when the archive is missing, has another size than its manifest says, or says of
   * itself that it is another point.
   */
  async open(point: PointManifest): Promise<ChainArchive> {
    let pending = this.#open.get(point.point)
    if (pending === undefined) {
      pending = openPoint(this.#repository, point, this.#codec, this.#cache)
      this.#open.set(point.point, pending)
    }
    return await pending
  }

  async close(point: number): Promise<void> {
    const pending = this.#open.get(point)
    this.#open.delete(point)
    if (pending !== undefined) {
      await pending.then(
        (archive) => archive.reader.close(),
        () => undefined,
      )
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const point of [...this.#open.keys()]) await this.close(point)
  }
}

/** Where a point's archive is; checks that it is there and as long as its manifest says. */
export async function locateArchive(repository: ReadRepository, point: PointManifest): Promise<ObjectLocation> {
  const location = await repository.locate(point.archive.name)
  const damaged = (what: string): RefpointError =>
    new RefpointError(
      'damaged',
      `the archive of point #${point.point} of machine '${point.machine}' ${what}: ${point.archive.name}`,
      {
        hint: `Every point that builds on #${point.point} needs it. 'refpoint verify ${point.machine}' lists what is whole.`,
        fields: { machine: point.machine, point: point.point, archive: point.archive.name },
      },
    )
  if (location === undefined) throw damaged('is missing')
  if (location.bytes !== point.archive.bytes)
    throw damaged(`has ${location.bytes} bytes instead of ${point.archive.bytes}`)
  return location
}

async function openPoint(
  repository: ReadRepository,
  point: PointManifest,
  codec: Codec,
  cache: FrameCache,
): Promise<ChainArchive> {
  const location = await locateArchive(repository, point)
  const reader = await openArchive(location, codec, cache)
  const { header } = reader
  const differs = (
    [
      ['repositoryId', header.repositoryId, point.repositoryId],
      ['machineUuid', header.machineUuid, point.machineUuid],
      ['point', header.point, point.point],
      ['parent', header.parent, point.parent],
      ['nonce', header.nonce, point.nonce],
      ['list of stores', describeStores(header.stores), describeStores(point.stores)],
    ] as const
  ).find(([, inArchive, inManifest]) => inArchive !== inManifest)
  if (differs !== undefined) {
    await reader.close()
    const [field, inArchive, inManifest] = differs
    throw new RefpointError(
      'damaged',
      `the archive of point #${point.point} of machine '${point.machine}' is of another point: ` +
        `its ${field} is ${String(inArchive)}, the manifest's ${String(inManifest)}`,
      { fields: { machine: point.machine, point: point.point, archive: point.archive.name, field } },
    )
  }
  return { point, location, reader }
}

/** What the archive and the manifest must agree on. Only the manifest, written later, can say that a store was refined. */
function describeStores(stores: readonly { name: string; sizeBytes: number; mode: string }[]): string {
  return stores
    .map(({ name, sizeBytes, mode }) => `${name} (${sizeBytes} bytes, ${mode === 'full' ? 'full' : 'incremental'})`)
    .join(', ')
}

/**
 * One store at one point, through its chain: what each sector and digest block is, a window at a time, so that memory
 * does not grow with the disk.
 */
export class StoreChain {
  readonly sizeBytes: number
  /** Newest first; index 0 is the point itself. */
  readonly archives: readonly ChainArchive[]
  readonly #store: string

  private constructor(store: string, archives: readonly ChainArchive[], sizeBytes: number) {
    this.#store = store
    this.archives = archives
    this.sizeBytes = sizeBytes
  }

  static async open(
    shelf: ArchiveShelf,
    point: PointManifest,
    store: string,
    bySlot: ReadonlyMap<number, PointManifest>,
  ): Promise<StoreChain> {
    const points = storeChain(point, store, bySlot)
    const archives: ChainArchive[] = []
    for (const member of points) archives.push(await shelf.open(member))
    return new StoreChain(store, archives, storeRecord(point, store)?.sizeBytes ?? 0)
  }

  /** What these archives alone hold of a store, newest first: a part of a chain. */
  static of(store: string, archives: readonly ChainArchive[], sizeBytes: number): StoreChain {
    return new StoreChain(store, archives, sizeBytes)
  }

  /** The same store at the point before: the chain without its newest archive. */
  older(): StoreChain | undefined {
    const [, parent] = this.archives
    if (parent === undefined) return undefined
    return new StoreChain(this.#store, this.archives.slice(1), storeRecord(parent.point, this.#store)?.sizeBytes ?? 0)
  }

  /** The windows that any archive of the chain has an entry for, ascending. */
  windows(): readonly number[] {
    const seen = new Set<number>()
    const last = Math.ceil(this.sizeBytes / WINDOW_BYTES)
    for (const archive of this.archives) {
      for (const window of archive.reader.store(this.#store)?.windows ?? []) if (window < last) seen.add(window)
    }
    return [...seen].sort((a, b) => a - b)
  }

  /** What the chain says of the digest blocks of a window; the newest entry wins. */
  async digestWindow(window: number): Promise<DigestWindow> {
    return (await this.#load(window, false)).digests
  }

  /** Both maps of a window. */
  async window(window: number): Promise<{ readonly digests: DigestWindow; readonly map: ExtentMap }> {
    return await this.#load(window, true)
  }

  async #load(window: number, withMap: boolean): Promise<{ digests: DigestWindow; map: ExtentMap }> {
    const bytes = Math.max(0, Math.min(WINDOW_BYTES, this.sizeBytes - window * WINDOW_BYTES))
    const digests = new DigestWindow(Math.min(WINDOW_BLOCKS, blockCount(bytes)))
    const map = new ExtentMap(Math.min(WINDOW_SECTORS, Math.ceil(bytes / SECTOR_BYTES)))
    for (const [index, archive] of this.archives.entries()) {
      if (digests.complete && (!withMap || map.complete)) break
      const tables = await archive.reader.store(this.#store)?.window(window)
      if (tables === undefined) continue
      digests.addOlder(tables.runs)
      if (withMap) map.addOlder(tables.extents, index)
    }
    return { digests, map }
  }
}
