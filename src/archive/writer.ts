import type { Codec } from '../compress/codec.js'
import { FRAME_CONTENT_BYTES } from '../model/geometry.js'
import { type ArchiveHeader, type ConfigIndex, type StoreIndex, headerSchema } from './archive-header.js'
import { FoldedStoreWriter } from './folded-store-writer.js'
import {
  CONFIG_FILE_LIMIT,
  HEADER_MEMBER,
  INDEX_MEMBER,
  configMember,
  filled,
  isConfigPath,
  isStoreName,
} from './format.js'
import { type PayloadFrame, payloadFrames } from './member-payload.js'
import { OutputQueue } from './output-queue.js'
import { encodeSeekTable } from './seek-table.js'
import { StoreWriter, type StoreWriterOptions } from './store-writer.js'
import { tarHeader } from './tar-header.js'
import { GrowableColumn } from './u32-columns.js'

const QUEUE_BYTES = 16 * 1024 ** 2
const NEWLINE = 0x0a

export interface ArchiveWriterOptions {
  readonly header: ArchiveHeader
  readonly codec: Codec
  /** For what the writer compresses itself: headers and tables. 1 to 19. */
  readonly level: number
  /** Output that may wait for its reader before `append` waits too. */
  readonly queueBytes?: number
}

/**
 * Writes one archive (FORMAT.md). What it makes is read from `output`, once, at the reader's pace; every call here
 * rejects with the reason after `abort`, or when the reader of `output` stopped.
 */
export class ArchiveWriter {
  readonly output: AsyncIterable<Uint8Array>
  readonly #queue: OutputQueue
  readonly #header: ArchiveHeader
  readonly #codec: Codec
  readonly #level: number
  readonly #time: Date
  readonly #stored = new GrowableColumn(1024)
  readonly #content = new GrowableColumn(1024)
  readonly #stores = new Map<string, StoreIndex | undefined>()
  readonly #config: ConfigIndex[] = []
  #begun: Promise<unknown> | undefined

  constructor(options: ArchiveWriterOptions) {
    const { header } = options
    headerSchema.parse(header)
    const names = new Set(header.stores.map((store) => store.name))
    if (names.size !== header.stores.length || [...names].some((name) => !isStoreName(name))) {
      throw new Error(`not a set of store names: ${header.stores.map((store) => store.name).join(', ')}`)
    }
    this.#header = header
    this.#codec = options.codec
    this.#level = options.level
    this.#time = new Date(header.time)
    this.#queue = new OutputQueue(options.queueBytes ?? QUEUE_BYTES)
    this.output = this.#queue
  }

  /** Adds a file of the machine's configuration, at most 64 MiB. The path is relative and without `..`. */
  async addConfig(path: string, content: Uint8Array): Promise<void> {
    if (!isConfigPath(path)) throw new Error(`not a path within the configuration: ${path}`)
    if (this.#config.some((file) => file.path === path)) throw new Error(`configuration file ${path} is there twice`)
    if (content.length > CONFIG_FILE_LIMIT) throw new Error(`configuration file ${path} is larger than 64 MiB`)
    const entry = { path, headerFrame: 0, frames: 0, bytes: content.length }
    this.#config.push(entry)
    const payload = payloadFrames(this.#codec, this.#level, [content], 0)
    const first = await this.#writeMember(configMember(path), content.length, payload)
    Object.assign(entry, { headerFrame: first - 1, frames: payload.length })
  }

  /** The writer of a store that the header names; once per store. */
  store(name: string): StoreWriter {
    return new StoreWriter(this.#storeOptions(name))
  }

  /** The same, for what is put together from frames and tables of other archives. */
  foldedStore(name: string): FoldedStoreWriter {
    return new FoldedStoreWriter(this.#storeOptions(name))
  }

  /** Ends the archive, all stores being finished; returns its size and SHA-256 (hex), which are final. */
  async finish(): Promise<{ readonly bytes: number; readonly sha256: string }> {
    const stores: StoreIndex[] = []
    for (const { name } of this.#header.stores) {
      const index = this.#stores.get(name)
      if (index === undefined) throw new Error(`store ${name} is not finished`)
      stores.push(index)
    }
    const index = { format: 1, point: this.#header.point, stores, members: { config: this.#config } }
    await this.#writeJson(INDEX_MEMBER, index)
    this.#pushFrame(this.#codec.compress(new Uint8Array(1024), this.#level), 1024)
    this.#queue.push(encodeSeekTable(this.#stored.view(), this.#content.view()))
    return { bytes: this.#queue.totalBytes, sha256: this.#queue.end() }
  }

  /** Gives the archive up: whoever reads `output`, or waits here, gets `reason`. */
  abort(reason: unknown): void {
    this.#queue.fail(reason)
  }

  #storeOptions(name: string): StoreWriterOptions {
    const store = this.#header.stores.find((candidate) => candidate.name === name)
    if (store === undefined || this.#stores.has(name)) throw new Error(`store ${name} is unknown or already written`)
    this.#stores.set(name, undefined)
    return {
      name,
      sizeBytes: store.sizeBytes,
      codec: this.#codec,
      level: this.#level,
      writeMember: (member, bytes, payload) => this.#writeMember(member, bytes, payload),
      finished: (index) => this.#stores.set(name, index),
    }
  }

  async #writeMember(name: string, bytes: number, payload: readonly PayloadFrame[]): Promise<number> {
    this.#begun ??= this.#writeJson(HEADER_MEMBER, this.#header)
    await this.#begun
    await this.#queue.room()
    return this.#pushMember(name, bytes, payload)
  }

  async #writeJson(name: string, value: unknown): Promise<void> {
    if (name !== HEADER_MEMBER) {
      this.#begun ??= this.#writeJson(HEADER_MEMBER, this.#header)
      await this.#begun
    }
    const json = Buffer.from(`${JSON.stringify(value)}\n`)
    if (json.length > FRAME_CONTENT_BYTES) throw new Error(`${name} is larger than 1 MiB: too many stores or files`)
    await this.#pushMember(name, filled(json.length), payloadFrames(this.#codec, this.#level, [json], NEWLINE))
  }

  /** Between its first and its last push nothing waits, so that members of several stores never mix. */
  async #pushMember(name: string, bytes: number, payload: readonly PayloadFrame[]): Promise<number> {
    const header = await tarHeader(name, bytes, this.#time)
    this.#pushFrame(this.#codec.compress(header, this.#level), header.length)
    const first = this.#stored.length
    for (const { frame, contentBytes, consumed } of payload) this.#pushFrame(frame, contentBytes, consumed)
    return first
  }

  #pushFrame(frame: Uint8Array, contentBytes: number, consumed?: () => void): void {
    this.#queue.push(frame, consumed)
    this.#stored.push(frame.length)
    this.#content.push(contentBytes)
  }
}
