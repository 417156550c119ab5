import type { Codec } from '../compress/codec.js'
import { frameDefect } from '../compress/frame-layout.js'
import { FRAME_CONTENT_BYTES } from '../model/geometry.js'
import type { ObjectLocation } from '../model/location.js'
import { archiveDamage } from './archive-damage.js'
import { readHeader, readIndex } from './archive-documents.js'
import type { ArchiveHeader, ArchiveIndex, ConfigIndex } from './archive-header.js'
import { configMember } from './format.js'
import { FrameCache } from './frame-cache.js'
import { FrameReader } from './frame-reader.js'
import { openRanges } from './range-reader.js'
import type { FrameTable } from './seek-table.js'
import { StoreReader } from './store-reader.js'

/**
 * Opens an archive: seek table, header, index and directories, all checked; content and tables are read when asked for.
 * Nothing that the archive says is believed before it was held against the file and against the rest of it.
 * @throws RefpointError `damaged` naming the archive, the part and what disagreed; `no-repository` when the archive
 * needs a newer version; `io` when it can't be read.
 */
export async function openArchive(
  location: ObjectLocation,
  codec: Codec,
  cache: FrameCache = new FrameCache(FRAME_CONTENT_BYTES),
): Promise<ArchiveReader> {
  const ranges = await openRanges(location)
  try {
    const frames = await FrameReader.open(ranges, codec)
    if (frames.frames.count < 5) throw archiveDamage(ranges.description, 'seek table', 'fewer than five frames')
    const header = await readHeader(frames)
    const index = await readIndex(frames, header)
    const stores: StoreReader[] = []
    for (const [position, store] of header.stores.entries()) {
      const entry = index.stores[position]
      if (entry !== undefined) stores.push(await StoreReader.open(frames, store, entry, cache))
    }
    frames.forgetTail()
    return new ArchiveReader(header, index, frames, stores)
  } catch (error) {
    await ranges.close()
    throw error
  }
}

/** An open archive. */
export class ArchiveReader {
  readonly header: ArchiveHeader
  readonly index: ArchiveIndex
  /** Where each frame is, and how long it is stored and decoded. */
  readonly frames: FrameTable
  readonly stores: readonly StoreReader[]
  readonly #frames: FrameReader

  constructor(header: ArchiveHeader, index: ArchiveIndex, frames: FrameReader, stores: readonly StoreReader[]) {
    this.header = header
    this.index = index
    this.frames = frames.frames
    this.stores = stores
    this.#frames = frames
  }

  store(name: string): StoreReader | undefined {
    return this.stores.find((store) => store.name === name)
  }

  /** The machine's configuration files that are in this archive. */
  get config(): readonly ConfigIndex[] {
    return this.index.members.config
  }

  async readConfig(path: string): Promise<Uint8Array> {
    const section = `configuration file ${path}`
    const file = this.config.find((candidate) => candidate.path === path)
    if (file === undefined) throw new RangeError(`no configuration file ${path}`)
    const content = await this.#frames.member(configMember(path), file.headerFrame, file.frames, section)
    if (content.length === file.bytes) return content
    throw archiveDamage(this.#frames.archive, section, `${content.length} bytes, the index says ${file.bytes}`)
  }

  /** The content of a frame. */
  async readFrame(frame: number): Promise<Uint8Array> {
    return this.#frames.read(frame)
  }

  /**
   * Frames as they are stored, in one read, each seen to be one zstd frame of as much content as the seek table says:
   * views of `into`, which must have room for them.
   * @throws RefpointError `damaged`
   */
  async storedFrames(first: number, count: number, into: Uint8Array): Promise<readonly Uint8Array[]> {
    await this.#frames.readStored(first, count, into)
    const start = this.frames.offsetOf(first)
    return Array.from({ length: count }, (_, index) => {
      const at = this.frames.offsetOf(first + index) - start
      const frame = into.subarray(at, at + this.frames.storedBytes(first + index))
      const defect = frameDefect(frame, this.frames.contentBytes(first + index))
      if (defect === undefined) return frame
      throw archiveDamage(this.#frames.archive, 'data', `frame ${first + index}: ${defect}`)
    })
  }

  async close(): Promise<void> {
    await this.#frames.close()
  }
}
