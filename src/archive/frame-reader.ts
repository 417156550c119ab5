import type { Codec } from '../compress/codec.js'
import { archiveDamage, reasonOf } from './archive-damage.js'
import { type ExtractedMember, extractMember } from './extract-member.js'
import type { RangeReader } from './range-reader.js'
import { FOOT_BYTES, type FrameTable, decodeSeekTable, seekTableBytes } from './seek-table.js'

/** Read first, from the end: holds the seek table of a small archive, its index, and often its directories. */
const TAIL_BYTES = 128 * 1024

/** The frames of one archive, by number. */
export class FrameReader {
  readonly frames: FrameTable
  readonly #ranges: RangeReader
  readonly #codec: Codec
  #tail: Uint8Array
  #tailOffset: number

  private constructor(ranges: RangeReader, codec: Codec, frames: FrameTable, tail: Uint8Array) {
    this.frames = frames
    this.#ranges = ranges
    this.#codec = codec
    this.#tail = tail
    this.#tailOffset = ranges.bytes - tail.length
  }

  /** Reads the seek table, with one or two reads. */
  static async open(ranges: RangeReader, codec: Codec): Promise<FrameReader> {
    const damage = (found: string) => archiveDamage(ranges.description, 'seek table', found)
    if (ranges.bytes < FOOT_BYTES) throw damage(`the file has ${ranges.bytes} bytes`)
    const tail = await ranges.read(Math.max(0, ranges.bytes - TAIL_BYTES), Math.min(TAIL_BYTES, ranges.bytes))
    const bytes = seekTableBytes(tail, ranges.bytes)
    if (typeof bytes === 'string') throw damage(bytes)
    const table = bytes <= tail.length ? tail.slice(-bytes) : await ranges.read(ranges.bytes - bytes, bytes)
    const frames = decodeSeekTable(table, ranges.bytes)
    if (typeof frames === 'string') throw damage(frames)
    return new FrameReader(ranges, codec, frames, tail)
  }

  get archive(): string {
    return this.#ranges.description
  }

  /** The content of a frame. `section` names it in the error. */
  async read(frame: number, section = 'data'): Promise<Uint8Array> {
    const stored = await this.#stored(this.frames.offsetOf(frame), this.frames.storedBytes(frame))
    return this.decode(frame, stored, section)
  }

  /** Lends the content of a frame to `use`, which must not throw, and must be done with it when it returns. */
  async lend<Result>(frame: number, section: string, use: (content: Uint8Array) => Result): Promise<Result> {
    const stored = await this.#stored(this.frames.offsetOf(frame), this.frames.storedBytes(frame))
    try {
      return this.#codec.lendDecompressed(stored, this.frames.contentBytes(frame), use)
    } catch (error) {
      throw archiveDamage(this.archive, section, `frame ${frame}: ${reasonOf(error)}`, error)
    }
  }

  /** The content of a frame whose stored bytes are at hand. */
  decode(frame: number, stored: Uint8Array, section: string): Uint8Array {
    try {
      return this.#codec.decompress(stored, this.frames.contentBytes(frame))
    } catch (error) {
      throw archiveDamage(this.archive, section, `frame ${frame}: ${reasonOf(error)}`, error)
    }
  }

  /** Reads the stored bytes of consecutive frames, at once, to the start of `into`. */
  async readStored(first: number, count: number, into: Uint8Array): Promise<void> {
    const offset = this.frames.offsetOf(first)
    const bytes = this.frames.offsetOf(first + count) - offset
    if (bytes > into.length) throw new RangeError(`no room for ${bytes} bytes in ${into.length}`)
    await this.#ranges.readInto(into.subarray(0, bytes), offset)
  }

  /** The member whose header frame is `headerFrame`, with `count` payload frames; its name must be `name`. */
  async member(name: string, headerFrame: number, count: number, section: string): Promise<Buffer> {
    if (headerFrame < 0 || headerFrame + count >= this.frames.count) {
      throw archiveDamage(this.archive, section, `frames ${headerFrame} to ${headerFrame + count} do not exist`)
    }
    const pieces: Uint8Array[] = []
    for (let frame = headerFrame; frame <= headerFrame + count; frame += 1) pieces.push(await this.read(frame, section))
    let member: ExtractedMember
    try {
      member = await extractMember(pieces)
    } catch (error) {
      throw archiveDamage(this.archive, section, `the tar member can not be read: ${reasonOf(error)}`, error)
    }
    if (member.name !== name) throw archiveDamage(this.archive, section, `the member is named ${member.name}`)
    return member.content
  }

  /** Drops what was kept of the file's end for opening it: a chain has a hundred of these open. */
  forgetTail(): void {
    this.#tail = new Uint8Array(0)
    this.#tailOffset = this.#ranges.bytes
  }

  async close(): Promise<void> {
    await this.#ranges.close()
  }

  async #stored(offset: number, bytes: number): Promise<Uint8Array> {
    if (offset < this.#tailOffset) return this.#ranges.read(offset, bytes)
    return this.#tail.subarray(offset - this.#tailOffset, offset - this.#tailOffset + bytes)
  }
}
