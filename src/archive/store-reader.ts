import {
  FRAME_CONTENT_BYTES,
  SECTOR_BYTES,
  WINDOW_BLOCKS,
  WINDOW_SECTORS,
  blockCount,
  windowCount,
} from '../model/geometry.js'
import type { WindowTables } from '../model/tables.js'
import { archiveDamage } from './archive-damage.js'
import type { ArchiveStore, StoreIndex } from './archive-header.js'
import { type Directory, type DirectoryRow, decodeDirectory } from './directory.js'
import { directoryMember, filled, toSectors } from './format.js'
import type { FrameCache } from './frame-cache.js'
import type { FrameReader } from './frame-reader.js'
import { decodeTables, tablesDefect } from './window-tables.js'

/** One store of an open archive. Keeps its directory and nothing else: tables are read a window at a time. */
export class StoreReader {
  readonly name: string
  readonly sizeBytes: number
  readonly mode: ArchiveStore['mode']
  /** Of the whole store at this point: 64 hex digits, or null. */
  readonly contentSum: string | null
  readonly #frames: FrameReader
  readonly #directory: Directory
  readonly #cache: FrameCache
  readonly #owner: number

  private constructor(
    frames: FrameReader,
    store: ArchiveStore,
    index: StoreIndex,
    directory: Directory,
    cache: FrameCache,
  ) {
    this.name = store.name
    this.sizeBytes = store.sizeBytes
    this.mode = store.mode
    this.contentSum = index.contentSum
    this.#frames = frames
    this.#cache = cache
    this.#owner = cache.register()
    this.#directory = directory
  }

  static async open(
    frames: FrameReader,
    store: ArchiveStore,
    index: StoreIndex,
    cache: FrameCache,
  ): Promise<StoreReader> {
    const section = `directory of store ${store.name}`
    const damage = (found: string) => archiveDamage(frames.archive, section, found)
    const limit = windowCount(store.sizeBytes)
    if (index.windows > limit) throw damage(`${index.windows} windows in a store of ${store.sizeBytes} bytes`)
    const bytes = filled(index.windows * 28)
    if (index.directoryFrames !== Math.ceil(bytes / FRAME_CONTENT_BYTES)) {
      throw damage(`${index.directoryFrames} frames for ${index.windows} windows`)
    }
    const name = directoryMember(store.name)
    const content = await frames.member(name, index.directoryFrame - 1, index.directoryFrames, section)
    const directory = decodeDirectory(content, index.windows, limit)
    if (typeof directory === 'string') throw damage(directory)
    for (let index = 0; index < directory.count; index += 1) {
      const row = directory.row(index)
      const end = row.frame + Math.ceil((row.at + row.bytes) / FRAME_CONTENT_BYTES)
      if (end > frames.frames.count - 3) throw damage(`window ${row.window} is in frames that do not exist`)
    }
    return new StoreReader(frames, store, index, directory, cache)
  }

  /** Windows that were touched, ascending. */
  get windows(): readonly number[] {
    return this.#directory.windows()
  }

  /** Where a window's tables are, or undefined when nothing in it was touched. */
  directoryRow(window: number): DirectoryRow | undefined {
    return this.#directory.find(window)
  }

  /**
   * The tables of a window, every field checked, or undefined when nothing in it was touched.
   * @throws RefpointError `damaged`
   */
  async window(window: number): Promise<WindowTables | undefined> {
    const row = this.#directory.find(window)
    if (row === undefined) return undefined
    const tables = decodeTables(await this.#bytes(row), row.extents, row.runs)
    const last = this.#frames.frames.count - 3
    const defect = tablesDefect(tables, {
      sectors: toSectors(this.sizeBytes) - window * WINDOW_SECTORS,
      blocks: blockCount(this.sizeBytes) - window * WINDOW_BLOCKS,
      frameSectors: (frame) => (frame < last ? this.#frames.frames.contentBytes(frame) / SECTOR_BYTES : 0),
    })
    if (defect !== undefined) throw archiveDamage(this.#frames.archive, this.#section(window), defect)
    return tables
  }

  async #bytes(row: DirectoryRow): Promise<Uint8Array> {
    const bytes = new Uint8Array(row.bytes)
    let done = 0
    for (let frame = row.frame; done < row.bytes; frame += 1) {
      const from = frame === row.frame ? row.at : 0
      const frameBytes = await this.#withFrame(frame, row.window, (content) => {
        const part = content.subarray(from, from + row.bytes - done)
        bytes.set(part, done)
        done += part.length
        return content.length
      })
      if (done < row.bytes && frameBytes < FRAME_CONTENT_BYTES) throw this.#short(row)
    }
    return bytes
  }

  /** Lends the content of a frame to `use`, which must not throw. */
  async #withFrame<Result>(frame: number, window: number, use: (content: Uint8Array) => Result): Promise<Result> {
    const known = this.#cache.get(this.#owner, frame)
    if (known !== undefined) return use(known)
    return await this.#frames.lend(frame, this.#section(window), (content) => {
      if (this.#cache.worthwhile) this.#cache.put(this.#owner, frame, Uint8Array.from(content))
      return use(content)
    })
  }

  #section(window: number): string {
    return `tables of window ${window} of store ${this.name}`
  }

  #short(row: DirectoryRow): Error {
    return archiveDamage(this.#frames.archive, this.#section(row.window), 'they end past the content of their frame')
  }
}
