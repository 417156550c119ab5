import { dataExtents } from '../../files/sparse.js'
import type { Native } from '../../files/native.js'
import type { LayerStack } from './layer-stack.js'
import { RangeLock } from './range-lock.js'

const zeroPiece = new Uint8Array(1024 * 1024)

/**
 * Writes into the stack's target layer. The caller holds the disk's write gate, so that generation and stack stand.
 *
 * With the base alone, writes go straight to its file. With overlays, a block that the target does not provide is
 * written as a whole: a partial write brings the rest of the block with it, so blocks are locked.
 */
export class BlockWriter {
  readonly #stack: LayerStack
  readonly #locks = new RangeLock()
  readonly #native: Native | undefined

  constructor(stack: LayerStack, native: Native | undefined) {
    this.#stack = stack
    this.#native = native
  }

  lock(first: number, last: number): Promise<() => void> {
    return this.#locks.acquire(first, last)
  }

  async write(pieces: readonly Uint8Array[], offset: number, length: number, place: WritePlace): Promise<void> {
    if (this.#stack.layers.length === 1) return this.#writeBase(pieces, offset, length, place)
    const { first, last } = this.#blocks(offset, length)
    const unlock = await this.#locks.acquire(first, last)
    try {
      await this.#writeLocked(pieces, offset, length, place)
    } finally {
      unlock()
    }
  }

  /** At most one region at a time. */
  async zero(offset: number, length: number, place: WritePlace): Promise<void> {
    if (this.#stack.layers.length === 1) return this.#zeroBase(offset, length, place)
    const { first, last } = this.#blocks(offset, length)
    const unlock = await this.#locks.acquire(first, last)
    try {
      await this.#zeroLocked(offset, length, place)
    } finally {
      unlock()
    }
  }

  async #writeBase(pieces: readonly Uint8Array[], offset: number, length: number, place: WritePlace): Promise<void> {
    const { base } = this.#stack
    const { first, last } = this.#blocks(offset, length)
    const prepared = base.map.prepare(first, last, place.generation)
    if (prepared !== undefined) await prepared
    try {
      await base.data.write(pieces, offset)
    } finally {
      // Even a write that failed may have changed something.
      await base.map.record(first, last, place.generation)
      base.touched()
    }
  }

  /** What is a hole already stays unchanged: a guest that trims its free space over and over changes nothing. */
  async #zeroBase(offset: number, length: number, place: WritePlace): Promise<void> {
    const { base } = this.#stack
    for (const page of dataExtents(base.data.fd, { offset, length }, this.#native)) {
      for (const extent of page) {
        if (extent.kind === 'zero') continue
        const { first, last } = this.#blocks(extent.offset, extent.length)
        const prepared = base.map.prepare(first, last, place.generation)
        if (prepared !== undefined) await prepared
        try {
          await base.data.zero(extent.offset, extent.length)
        } finally {
          await base.map.record(first, last, place.generation)
          base.touched()
        }
      }
    }
  }

  async #writeLocked(pieces: readonly Uint8Array[], offset: number, length: number, place: WritePlace): Promise<void> {
    const { target } = this.#stack
    const { first, last } = this.#blocks(offset, length)
    const start = first * this.#stack.blockBytes
    const end = Math.min((last + 1) * this.#stack.blockBytes, place.sizeBytes)
    const head = offset > start && (await this.#needsRest(first)) ? await this.#readRest(start, offset) : undefined
    const to = offset + length
    const tail = to < end && (await this.#needsRest(last)) ? await this.#readRest(to, end) : undefined
    const whole = [...(head === undefined ? [] : [head]), ...pieces, ...(tail === undefined ? [] : [tail])]
    await this.#change(first, last, place, () => target.data.write(whole, head === undefined ? offset : start))
  }

  /** Changes blocks of the target as wholes; from then on the target provides them. */
  async #change(first: number, last: number, place: WritePlace, change: () => Promise<void>): Promise<void> {
    const { target, above } = this.#stack
    await target.map.prepare(first, last, place.generation)
    try {
      await change()
    } catch (error) {
      // In the base every block counts as present, so one that a failed write may have changed is noted.
      if (target.overlay === undefined) await target.map.record(first, last, place.generation)
      throw error
    } finally {
      target.touched()
    }
    await target.map.record(first, last, place.generation)
    await above?.overlay?.clear(first, last)
  }

  /** Whether the target is not what provides this block, so that a partial write must bring the rest with it. */
  async #needsRest(block: number): Promise<boolean> {
    const { target, above } = this.#stack
    if ((await above?.overlay?.has(block)) === true) return true
    return target.overlay !== undefined && !(await target.overlay.has(block))
  }

  async #readRest(from: number, to: number): Promise<Uint8Array> {
    const rest = new Uint8Array(to - from)
    await this.#stack.read(rest, from)
    return rest
  }

  async #zeroLocked(offset: number, length: number, place: WritePlace): Promise<void> {
    const { blockBytes } = this.#stack
    const end = offset + length
    const wholeStart = Math.min(Math.ceil(offset / blockBytes) * blockBytes, end)
    const wholeEnd = end === place.sizeBytes ? end : Math.max(Math.floor(end / blockBytes) * blockBytes, wholeStart)
    if (wholeStart > offset) await this.#writeZeroes(offset, wholeStart, place)
    if (end > wholeEnd) await this.#writeZeroes(wholeEnd, end, place)
    if (wholeEnd === wholeStart) return
    const { first, last } = this.#blocks(wholeStart, wholeEnd - wholeStart)
    await this.#change(first, last, place, () => this.#stack.target.data.zero(wholeStart, wholeEnd - wholeStart))
  }

  /** Within one block. */
  #writeZeroes(from: number, to: number, place: WritePlace): Promise<void> {
    return this.#writeLocked([zeroPiece.subarray(0, to - from)], from, to - from, place)
  }

  #blocks(offset: number, length: number): { first: number; last: number } {
    const { blockBytes } = this.#stack
    return { first: Math.floor(offset / blockBytes), last: Math.floor((offset + length - 1) / blockBytes) }
  }
}

/** What stands while a write is under way. */
export interface WritePlace {
  readonly generation: number
  readonly sizeBytes: number
}
