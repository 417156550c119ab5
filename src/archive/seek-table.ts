import { FRAME_CONTENT_BYTES, SECTOR_BYTES } from '../model/geometry.js'
import { FRAME_STORED_LIMIT } from './format.js'
import { getWords, putWords } from './u32-columns.js'

const SKIPPABLE_MAGIC = 0x184d2a5e
const SEEKABLE_MAGIC = 0x8f92eab1
const HEAD_BYTES = 8
/** Number of frames, descriptor, magic: what the file ends with. */
export const FOOT_BYTES = 9
const ENTRY_BYTES = 8
/** Of the seekable format. */
const FRAMES_LIMIT = 0x8000000
/** Frames between two remembered offsets. */
const STRIDE = 64

export function encodeSeekTable(stored: Uint32Array, content: Uint32Array): Uint8Array {
  const frames = stored.length
  if (frames > FRAMES_LIMIT) throw new Error(`an archive of ${frames} frames has no seek table`)
  const table = new Uint8Array(HEAD_BYTES + ENTRY_BYTES * frames + FOOT_BYTES)
  const view = new DataView(table.buffer)
  view.setUint32(0, SKIPPABLE_MAGIC, true)
  view.setUint32(4, ENTRY_BYTES * frames + FOOT_BYTES, true)
  const entries = new Uint32Array(2 * frames)
  for (let frame = 0; frame < frames; frame += 1) {
    entries[2 * frame] = stored[frame] ?? 0
    entries[2 * frame + 1] = content[frame] ?? 0
  }
  const foot = putWords(table, HEAD_BYTES, entries)
  view.setUint32(foot, frames, true)
  view.setUint32(foot + 5, SEEKABLE_MAGIC, true)
  return table
}

/** Where each frame is: 8 bytes of memory per frame, and a little. */
export class FrameTable {
  readonly count: number
  readonly #entries: Uint32Array
  readonly #offsets: Float64Array

  constructor(entries: Uint32Array, offsets: Float64Array) {
    this.count = entries.length / 2
    this.#entries = entries
    this.#offsets = offsets
  }

  /** Byte in the file; `count` itself is the end of the last frame. */
  offsetOf(frame: number): number {
    if (!(frame >= 0 && frame <= this.count)) throw new RangeError(`no frame ${frame}`)
    const from = Math.floor(frame / STRIDE)
    let offset = this.#offsets[from] ?? 0
    for (let before = from * STRIDE; before < frame; before += 1) offset += this.#entries[2 * before] ?? 0
    return offset
  }

  storedBytes(frame: number): number {
    return this.#entry(2 * frame)
  }

  contentBytes(frame: number): number {
    return this.#entry(2 * frame + 1)
  }

  #entry(word: number): number {
    const value = this.#entries[word]
    if (value === undefined) throw new RangeError(`no frame ${word >> 1}`)
    return value
  }
}

/** Bytes of the whole seek table, from the last bytes of a file of `fileBytes`; or what is wrong. */
export function seekTableBytes(foot: Uint8Array, fileBytes: number): number | string {
  const view = new DataView(foot.buffer, foot.byteOffset + foot.length - FOOT_BYTES, FOOT_BYTES)
  if (view.getUint32(5, true) !== SEEKABLE_MAGIC) return 'the file does not end with a seek table'
  if (view.getUint8(4) !== 0) return 'its descriptor is not 0'
  const bytes = HEAD_BYTES + ENTRY_BYTES * view.getUint32(0, true) + FOOT_BYTES
  return bytes <= fileBytes ? bytes : 'it tells of more frames than the file can hold'
}

/** Parses and checks a whole seek table; returns what is wrong as a string. */
export function decodeSeekTable(table: Uint8Array, fileBytes: number): FrameTable | string {
  const view = new DataView(table.buffer, table.byteOffset, table.length)
  if (view.getUint32(0, true) !== SKIPPABLE_MAGIC) return 'it does not begin with a skippable frame'
  if (view.getUint32(4, true) !== table.length - HEAD_BYTES) return 'its frame size disagrees with its frame count'
  const count = (table.length - HEAD_BYTES - FOOT_BYTES) / ENTRY_BYTES
  const entries = getWords(table, HEAD_BYTES, 2 * count)
  const offsets = new Float64Array(Math.floor(count / STRIDE) + 1)
  let offset = 0
  for (let frame = 0; frame < count; frame += 1) {
    if (frame % STRIDE === 0) offsets[frame / STRIDE] = offset
    const stored = entries[2 * frame] ?? 0
    const content = entries[2 * frame + 1] ?? 0
    if (content === 0 || content > FRAME_CONTENT_BYTES || content % SECTOR_BYTES !== 0) {
      return `frame ${frame} states ${content} bytes of content`
    }
    if (stored === 0 || stored > FRAME_STORED_LIMIT) return `frame ${frame} states ${stored} stored bytes`
    offset += stored
  }
  if (count % STRIDE === 0) offsets[count / STRIDE] = offset
  if (offset !== fileBytes - table.length) {
    return `its frames take ${offset} bytes, the file has ${fileBytes - table.length} for them`
  }
  return new FrameTable(entries, offsets)
}
