import { endianness } from 'node:os'

/** A column of 32-bit words that grows; no object per row, because an archive may have 100 million rows. */
export class GrowableColumn {
  #words: Uint32Array
  #length = 0

  constructor(capacity = 64) {
    this.#words = new Uint32Array(capacity)
  }

  get length(): number {
    return this.#length
  }

  push(value: number): void {
    if (this.#length === this.#words.length) {
      const grown = new Uint32Array(this.#words.length * 2)
      grown.set(this.#words)
      this.#words = grown
    }
    this.#words[this.#length] = value
    this.#length += 1
  }

  at(row: number): number {
    const value = row < this.#length ? this.#words[row] : undefined
    if (value === undefined) throw new RangeError(`no row ${row} in a column of ${this.#length}`)
    return value
  }

  /** Adds to the last row. */
  addToLast(amount: number): void {
    const row = this.#length - 1
    this.#words[row] = this.at(row) + amount
  }

  /** A view of the rows, void after the next `push`. */
  view(): Uint32Array {
    return this.#words.subarray(0, this.#length)
  }
}

const littleEndian = endianness() === 'LE'

/** Copies words into `into` from byte `at` on, little-endian; returns the byte after them. */
export function putWords(into: Uint8Array, at: number, words: Uint32Array): number {
  const bytes = Buffer.from(into.buffer, into.byteOffset + at, words.byteLength)
  bytes.set(new Uint8Array(words.buffer, words.byteOffset, words.byteLength))
  if (!littleEndian) bytes.swap32()
  return at + words.byteLength
}

/** `count` little-endian words from byte `at` on: a view where alignment and the machine allow it, else a copy. */
export function getWords(from: Uint8Array, at: number, count: number): Uint32Array {
  const offset = from.byteOffset + at
  if (at + count * 4 > from.length) throw new RangeError('words past the end of a table')
  if (littleEndian && offset % 4 === 0) return new Uint32Array(from.buffer, offset, count)
  const copy = Buffer.alloc(count * 4)
  copy.set(from.subarray(at, at + count * 4))
  if (!littleEndian) copy.swap32()
  return new Uint32Array(copy.buffer, copy.byteOffset, count)
}
