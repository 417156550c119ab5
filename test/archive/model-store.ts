import { createHash } from 'node:crypto'
import type { Chunk } from '../../src/archive/chunk.js'
import { ContentSum } from '../../src/archive/content-sum.js'
import type { Codec } from '../../src/compress/codec.js'
import type { Extent } from '../../src/model/extent.js'

const BLOCK = 65_536
const MIB = 1024 ** 2

/** A sparse store in memory, block by block, and the chunks that a worker would make of it: the tests' own model. */
export class ModelStore {
  readonly sizeBytes: number
  readonly #blocks = new Map<number, Buffer>()

  constructor(sizeBytes: number) {
    this.sizeBytes = sizeBytes
  }

  copy(): ModelStore {
    const copy = new ModelStore(this.sizeBytes)
    for (const [block, bytes] of this.#blocks) copy.#blocks.set(block, Buffer.from(bytes))
    return copy
  }

  /** The blocks that were ever written, ascending. */
  blocks(): number[] {
    return [...this.#blocks.keys()].sort((a, b) => a - b)
  }

  write(offset: number, bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length; ) {
      const block = Math.floor((offset + done) / BLOCK)
      const within = (offset + done) % BLOCK
      const part = bytes.subarray(done, done + BLOCK - within)
      this.block(block).set(part, within)
      done += part.length
    }
  }

  /** Makes a range zero without writing blocks that were never written. */
  zero(offset: number, length: number): void {
    for (const [block, bytes] of this.#blocks) {
      bytes.fill(0, Math.max(0, offset - block * BLOCK), Math.max(0, Math.min(BLOCK, offset + length - block * BLOCK)))
    }
  }

  read(offset: number, length: number): Buffer {
    const into = Buffer.alloc(length)
    for (let done = 0; done < length; ) {
      const block = Math.floor((offset + done) / BLOCK)
      const within = (offset + done) % BLOCK
      const part = Math.min(length - done, BLOCK - within)
      this.#blocks.get(block)?.copy(into, done, within, within + part)
      done += part
    }
    return into
  }

  /** A digest block as it is hashed: the last one ends where the store ends. */
  hashed(block: number): Buffer {
    return this.read(block * BLOCK, Math.min(BLOCK, this.sizeBytes - block * BLOCK))
  }

  digest(block: number): Buffer | undefined {
    const content = this.hashed(block)
    if (content.every((byte) => byte === 0)) return undefined
    return createHash('sha256').update(content).digest().subarray(0, 16)
  }

  contentSum(): string {
    const sum = new ContentSum()
    for (const block of this.blocks()) {
      const digest = this.digest(block)
      if (digest !== undefined) sum.add(block, digest)
    }
    return sum.toHex()
  }

  /** Chunks of ascending extents; `unknown` names blocks whose digest is not to be told. */
  *chunks(extents: readonly Extent[], codec: Codec, unknown: ReadonlySet<number> = new Set()): Generator<Chunk> {
    let touched = -1
    for (const extent of extents.flatMap(cut)) {
      const { offset, length, kind } = extent
      const content = Buffer.alloc(Math.ceil(length / 512) * 512)
      if (kind === 'data') this.read(offset, length).copy(content)
      const runs: number[] = []
      const digests: Buffer[] = []
      const last = Math.floor((offset + length - 1) / BLOCK)
      for (let block = Math.max(touched + 1, Math.floor(offset / BLOCK)); block <= last; block += 1) {
        const digest = unknown.has(block) ? undefined : this.digest(block)
        if (digest !== undefined) digests.push(digest)
        runs.push(block, 1, unknown.has(block) ? 3 : digest === undefined ? 2 : 1)
      }
      touched = Math.max(touched, last)
      yield {
        frame: kind === 'data' ? codec.compress(content, 1) : null,
        contentBytes: kind === 'data' ? content.length : 0,
        extents: Float64Array.from([offset, length, kind === 'data' ? 1 : 2, 0]),
        runs: Float64Array.from(runs),
        digests: Buffer.concat(digests),
      }
    }
  }

  private block(block: number): Buffer {
    let bytes = this.#blocks.get(block)
    if (bytes === undefined) this.#blocks.set(block, (bytes = Buffer.alloc(BLOCK)))
    return bytes
  }
}

function cut({ offset, length, kind }: Extent): Extent[] {
  if (kind === 'zero') return [{ offset, length, kind }]
  const parts: Extent[] = []
  for (let done = 0; done < length; done += MIB) {
    parts.push({ offset: offset + done, length: Math.min(MIB, length - done), kind })
  }
  return parts
}
