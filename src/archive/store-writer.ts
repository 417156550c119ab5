import type { Codec } from '../compress/codec.js'
import { FRAME_CONTENT_BYTES } from '../model/geometry.js'
import type { StoreIndex } from './archive-header.js'
import type { Chunk } from './chunk.js'
import { type DirectoryRow, encodeDirectory } from './directory.js'
import { NO_FRAME, dataMember, directoryMember, filled, tablesMember } from './format.js'
import { type PayloadFrame, type WriteMember, payloadFrames } from './member-payload.js'
import { type EncodedWindow, StoreTables } from './store-tables.js'

/** Content of one data member; its frames wait in memory, because the header before them states their size. */
const MEMBER_BYTES = 16 * 1024 ** 2
/** Tables wait until a member of them is worth its header. */
const TABLES_BYTES = 256 * 1024

/** What a store of this point came to, for its manifest. Bytes; extents are counted as rows of the tables. */
export interface StoreTotals {
  readonly dataExtents: number
  readonly zeroExtents: number
  readonly changedBytes: number
  readonly contentBytes: number
  readonly storedBytes: number
}

export interface StoreWriterOptions {
  readonly name: string
  readonly sizeBytes: number
  readonly codec: Codec
  readonly level: number
  readonly writeMember: WriteMember
  /** Told once, when the store is finished. */
  readonly finished: (index: StoreIndex) => void
}

/** Writes one store of an archive. One call at a time; several stores of an archive may be written at once. */
export class StoreWriter {
  readonly #options: StoreWriterOptions
  readonly #tables: StoreTables
  #pending: { readonly chunk: Chunk; readonly consumed: (() => void) | undefined }[] = []
  #pendingBytes = 0
  #dataMembers = 0
  #windows: EncodedWindow[] = []
  #windowBytes = 0
  #tablesMembers = 0
  #rows: DirectoryRow[] = []
  #storedBytes = 0
  #state: 'idle' | 'busy' | 'finished' | 'failed' = 'idle'

  constructor(options: StoreWriterOptions) {
    this.#options = options
    this.#tables = new StoreTables(options.name, options.sizeBytes)
  }

  /**
   * Takes the store's next chunk. Waits while too much output is queued. The memory of its frame is the writer's until
   * `consumed` is called, which is when it was stored; never, where the archive fails.
   */
  async append(chunk: Chunk, consumed?: () => void): Promise<void> {
    await this.#alone(async () => {
      checkFrame(chunk)
      if (chunk.frame === null && this.#pending.length === 0) return this.#take(chunk, NO_FRAME)
      this.#pending.push({ chunk, consumed })
      this.#pendingBytes += chunk.contentBytes + chunk.extents.byteLength + chunk.runs.byteLength + chunk.digests.length
      if (this.#pendingBytes >= MEMBER_BYTES) await this.#writeData()
    })
  }

  /** Ends the store. `contentSum` is of the whole store at this point, or null where it can't be told. */
  async finish(contentSum: string | null): Promise<StoreTotals> {
    await this.#alone(async () => {
      await this.#writeData()
      this.#keep(this.#tables.finish())
      await this.#writeTables()
      const { name, codec, level, writeMember, finished } = this.#options
      const payload = payloadFrames(codec, level, [encodeDirectory(this.#rows)], 0xff)
      const directoryFrame = await writeMember(directoryMember(name), contentBytes(payload), payload)
      finished({ name, directoryFrame, directoryFrames: payload.length, windows: this.#rows.length, contentSum })
    })
    this.#state = 'finished'
    const { dataExtents, zeroExtents, changedBytes } = this.#tables
    return {
      dataExtents,
      zeroExtents,
      changedBytes,
      contentBytes: this.#tables.contentBytes,
      storedBytes: this.#storedBytes,
    }
  }

  async #alone(work: () => Promise<void>): Promise<void> {
    if (this.#state !== 'idle') throw new Error(`store ${this.#options.name} is ${this.#state}: one call at a time`)
    this.#state = 'busy'
    try {
      await work()
      this.#state = 'idle'
    } catch (error) {
      this.#state = 'failed'
      throw error
    }
  }

  async #writeData(): Promise<void> {
    const pending = this.#pending
    this.#pending = []
    this.#pendingBytes = 0
    const payload: PayloadFrame[] = []
    for (const { chunk, consumed } of pending) {
      const { frame, contentBytes } = chunk
      if (frame !== null) payload.push({ frame, contentBytes, consumed })
    }
    let next = 0
    if (payload.length > 0) {
      const member = dataMember(this.#options.name, this.#dataMembers)
      this.#dataMembers += 1
      next = await this.#options.writeMember(member, contentBytes(payload), payload)
    }
    for (const { chunk } of pending) {
      if (chunk.frame === null) await this.#take(chunk, NO_FRAME)
      else {
        this.#storedBytes += chunk.frame.length
        await this.#take(chunk, next)
        next += 1
      }
    }
  }

  async #take(chunk: Chunk, frame: number): Promise<void> {
    this.#keep(this.#tables.add(chunk, frame))
    if (this.#windowBytes >= TABLES_BYTES) await this.#writeTables()
  }

  #keep(windows: readonly EncodedWindow[]): void {
    for (const window of windows) {
      this.#windows.push(window)
      this.#windowBytes += window.bytes.length
    }
  }

  async #writeTables(): Promise<void> {
    const windows = this.#windows
    if (windows.length === 0) return
    this.#windows = []
    this.#windowBytes = 0
    const { name, codec, level, writeMember } = this.#options
    const payload = payloadFrames(codec, level, windows.map((window) => window.bytes), 0)
    const member = tablesMember(name, this.#tablesMembers)
    this.#tablesMembers += 1
    const first = await writeMember(member, contentBytes(payload), payload)
    let offset = 0
    for (const { window, extents, runs, digests, bytes } of windows) {
      const frame = first + Math.floor(offset / FRAME_CONTENT_BYTES)
      this.#rows.push({ window, extents, runs, digests, frame, at: offset % FRAME_CONTENT_BYTES, bytes: bytes.length })
      offset += bytes.length
    }
  }
}

function contentBytes(payload: readonly PayloadFrame[]): number {
  return payload.reduce((sum, frame) => sum + frame.contentBytes, 0)
}

function checkFrame({ frame, contentBytes }: Chunk): void {
  const sound = frame === null ? contentBytes === 0 : contentBytes > 0 && contentBytes <= FRAME_CONTENT_BYTES
  if (!sound || contentBytes !== filled(contentBytes)) throw new Error(`a chunk brought ${contentBytes} content bytes`)
}
