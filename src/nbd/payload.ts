/** Below this a piece is gathered with others: a list of tiny pieces would take far more memory than their bytes. */
const tinyBytes = 4 * 1024

/**
 * Collects the payload of one WRITE from the chunks in which a socket delivers it, without copying the large ones.
 *
 * A view keeps its whole chunk alive, so a chunk is kept only where nearly all of it is this payload: the memory held
 * is at most 8/7 of the payload's bytes, whatever pieces a client sends it in.
 */
export class Payload {
  readonly pieces: Uint8Array[] = []
  #missing: number
  /** The part still unfilled of the last piece, where that is a gathering of tiny ones. */
  #room: Uint8Array | undefined

  constructor(bytes: number) {
    this.#missing = bytes
  }

  get complete(): boolean {
    return this.#missing === 0
  }

  /** Takes what it needs of `chunk` from `at` on; returns how many bytes. */
  add(chunk: Uint8Array, at: number): number {
    const taken = Math.min(this.#missing, chunk.length - at)
    let from = at
    const end = at + taken
    while (from < end) from += this.#addPiece(chunk, from, end)
    return taken
  }

  #addPiece(chunk: Uint8Array, from: number, end: number): number {
    const length = end - from
    if (this.#room !== undefined) return this.#gather(this.#room, chunk, from, end)
    if (length >= tinyBytes && length * 8 >= chunk.buffer.byteLength * 7) {
      this.pieces.push(chunk.subarray(from, end))
      this.#missing -= length
      return length
    }
    const piece = Buffer.allocUnsafeSlow(length >= tinyBytes ? length : Math.min(this.#missing, tinyBytes))
    this.pieces.push(piece)
    return this.#gather(piece, chunk, from, end)
  }

  #gather(room: Uint8Array, chunk: Uint8Array, from: number, end: number): number {
    const length = Math.min(room.length, end - from)
    room.set(chunk.subarray(from, from + length))
    this.#room = length < room.length ? room.subarray(length) : undefined
    this.#missing -= length
    return length
  }
}
