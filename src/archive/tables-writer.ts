import type { Codec } from '../compress/codec.js'
import { FRAME_CONTENT_BYTES } from '../model/geometry.js'
import type { StoreIndex } from './archive-header.js'
import { type DirectoryRow, encodeDirectory } from './directory.js'
import { directoryMember, tablesMember } from './format.js'
import { type WriteMember, payloadBytes, payloadFrames } from './member-payload.js'
import type { EncodedWindow } from './store-tables.js'

/** Tables wait until a member of them is worth its header. */
const TABLES_BYTES = 256 * 1024

export interface TablesWriterOptions {
  /** The store's. */
  readonly name: string
  readonly codec: Codec
  readonly level: number
  readonly writeMember: WriteMember
}

/** Writes the tables of one store, window by window, and at last its directory. One call at a time. */
export class TablesWriter {
  readonly #options: TablesWriterOptions
  #windows: EncodedWindow[] = []
  #bytes = 0
  #members = 0
  readonly #rows: DirectoryRow[] = []

  constructor(options: TablesWriterOptions) {
    this.#options = options
  }

  /** Takes windows in ascending order; writes them when there are enough for a member. */
  async add(windows: readonly EncodedWindow[]): Promise<void> {
    for (const window of windows) {
      this.#windows.push(window)
      this.#bytes += window.bytes.length
    }
    if (this.#bytes >= TABLES_BYTES) await this.#write()
  }

  /** Writes what is left, and the directory. */
  async finish(contentSum: string | null): Promise<StoreIndex> {
    await this.#write()
    const { name, codec, level, writeMember } = this.#options
    const payload = payloadFrames(codec, level, [encodeDirectory(this.#rows)], 0xff)
    const directoryFrame = await writeMember(directoryMember(name), payloadBytes(payload), payload)
    return { name, directoryFrame, directoryFrames: payload.length, windows: this.#rows.length, contentSum }
  }

  async #write(): Promise<void> {
    const windows = this.#windows
    if (windows.length === 0) return
    this.#windows = []
    this.#bytes = 0
    const { name, codec, level, writeMember } = this.#options
    const payload = payloadFrames(codec, level, windows.map((window) => window.bytes), 0)
    const member = tablesMember(name, this.#members)
    this.#members += 1
    const first = await writeMember(member, payloadBytes(payload), payload)
    let offset = 0
    for (const { window, extents, runs, digests, bytes } of windows) {
      const frame = first + Math.floor(offset / FRAME_CONTENT_BYTES)
      this.#rows.push({ window, extents, runs, digests, frame, at: offset % FRAME_CONTENT_BYTES, bytes: bytes.length })
      offset += bytes.length
    }
  }
}
