import { hash } from 'node:crypto'
import { DIGEST_BYTES } from '../model/geometry.js'

/** How many 32-bit words fit onto each other before a double loses a bit. */
const WORDS_PER_CARRY = 2 ** 20

/**
 * The content sum of a store (FORMAT.md §7): Σ SHA-256(block index ‖ digest) mod 2²⁵⁶ over the blocks that are not all
 * zero. Order does not matter, so partial sums of several threads can be merged.
 */
export class ContentSum {
  /** Eight 32-bit words, least significant first, each with carries not yet passed on. */
  readonly #words = new Float64Array(8)
  readonly #message = Buffer.alloc(4 + DIGEST_BYTES)
  readonly #hashed = Buffer.alloc(32)
  #pending = 0

  /** Adds the block's digest: the 16 bytes of `digests` from `at` on. */
  add(block: number, digests: Uint8Array, at = 0): void {
    this.#accumulate(this.#hash(block, digests, at), 1)
  }

  /** Takes the block's former digest out again. */
  subtract(block: number, digests: Uint8Array, at = 0): void {
    this.#accumulate(this.#hash(block, digests, at), -1)
  }

  /** Adds a sum as `toHex` gave it. */
  addHex(hex: string): void {
    if (!/^[0-9a-f]{64}$/.test(hex)) throw new RangeError(`not a content sum: ${hex}`)
    this.#accumulate(Buffer.from(hex, 'hex'), 1)
  }

  toHex(): string {
    this.#carry()
    const bytes = Buffer.alloc(32)
    for (const [word, value] of this.#words.entries()) bytes.writeUInt32BE(value, 28 - word * 4)
    return bytes.toString('hex')
  }

  #hash(block: number, digests: Uint8Array, at: number): Buffer {
    this.#message.writeUInt32LE(block, 0)
    for (let byte = 0; byte < DIGEST_BYTES; byte += 1) {
      const value = digests[at + byte]
      if (value === undefined) throw new RangeError('a digest is 16 bytes')
      this.#message[4 + byte] = value
    }
    // As a string: crypto.hash takes three times as long where it has to make a Buffer of its own.
    this.#hashed.write(hash('sha256', this.#message, 'binary'), 'latin1')
    return this.#hashed
  }

  #accumulate(number: Buffer, sign: 1 | -1): void {
    const words = this.#words
    for (let word = 0; word < 8; word += 1) {
      words[word] = (words[word] ?? 0) + sign * number.readUInt32BE(28 - word * 4)
    }
    this.#pending += 1
    if (this.#pending >= WORDS_PER_CARRY) this.#carry()
  }

  #carry(): void {
    let carry = 0
    for (let word = 0; word < 8; word += 1) {
      const sum = (this.#words[word] ?? 0) + carry
      carry = Math.floor(sum / 2 ** 32)
      this.#words[word] = sum - carry * 2 ** 32
    }
    this.#pending = 0
  }
}
