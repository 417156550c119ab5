import type { Codec } from '../compress/codec.js'
import { FRAME_CONTENT_BYTES } from '../model/geometry.js'
import type { StoreIndex } from './archive-header.js'
import type { Chunk } from './chunk.js'
import { NO_FRAME, dataMember, filled } from './format.js'
import { type PayloadFrame, type WriteMember, payloadBytes } from './member-payload.js'
import { StoreTables } from './store-tables.js'
import { TablesWriter } from './tables-writer.js'

/** Content of one data member; its frames wait in memory, because the header before them states their size. */
const MEMBER_BYTES = 16 * 1024 ** 2
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
  readonly #tableMembers: TablesWriter
  #storedBytes = 0
  #state: 'idle' | 'busy' | 'finished' | 'failed' = 'idle'

  constructor(options: StoreWriterOptions) {
    this.#options = options
    this.#tables = new StoreTables(options.name, options.sizeBytes)
    this.#tableMembers = new TablesWriter(options)
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
      await this.#tableMembers.add(this.#tables.finish())
      this.#options.finished(await this.#tableMembers.finish(contentSum))
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
      next = await this.#options.writeMember(member, payloadBytes(payload), payload)
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
    await this.#tableMembers.add(this.#tables.add(chunk, frame))
  }
}

function checkFrame({ frame, contentBytes }: Chunk): void {
  const sound = frame === null ? contentBytes === 0 : contentBytes > 0 && contentBytes <= FRAME_CONTENT_BYTES
  if (!sound || contentBytes !== filled(contentBytes)) throw new Error(`a chunk brought ${contentBytes} content bytes`)
}
