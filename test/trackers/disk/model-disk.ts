import type { FrozenDisk } from '../../../src/trackers/disk/disk-set.js'

/** An instant that has a change ID: what the disk held, and which blocks were touched by anything since. */
export interface Instant {
  readonly changeId: string
  readonly content: Buffer
  readonly touched: Set<number>
}

/** What a tracked disk ought to hold and to tell. */
export class ModelDisk {
  content: Buffer
  readonly blockBytes: number
  readonly instants: Instant[] = []
  readonly named = new Map<string, { content: Buffer; touched: Set<number> }>()

  constructor(sizeBytes: number, blockBytes: number) {
    this.content = Buffer.alloc(sizeBytes)
    this.blockBytes = blockBytes
  }

  write(bytes: Uint8Array, offset: number): void {
    this.content.set(bytes, offset)
    this.touch(offset, bytes.length)
  }

  zero(offset: number, length: number): void {
    this.content.fill(0, offset, offset + length)
    this.touch(offset, length)
  }

  trim(offset: number, length: number): void {
    const end = offset + length
    const from = Math.ceil(offset / this.blockBytes) * this.blockBytes
    const to = end === this.content.length ? end : Math.floor(end / this.blockBytes) * this.blockBytes
    if (to > from) this.zero(from, to - from)
  }

  /** A checkpoint was taken when the disk held `content`; the caller may have gone on writing. */
  froze({ changeId }: Pick<FrozenDisk, 'changeId'>): Instant {
    const instant = { changeId, content: Buffer.from(this.content), touched: new Set<number>() }
    this.instants.push(instant)
    return instant
  }

  nameNow(name: string): void {
    this.named.set(name, { content: Buffer.from(this.content), touched: new Set() })
  }

  rollBack(name: string): void {
    const found = this.named.get(name)
    if (found === undefined) throw new Error(`the model has no ${name}`)
    const names = [...this.named.keys()]
    for (const later of names.slice(names.indexOf(name) + 1)) this.named.delete(later)
    this.content = Buffer.from(found.content)
    for (const block of Array.from(found.touched)) this.#touchBlock(block)
  }

  resize(sizeBytes: number): void {
    const from = Math.min(sizeBytes, this.content.length)
    const next = Buffer.alloc(sizeBytes)
    this.content.copy(next, 0, 0, from)
    const end = Math.max(sizeBytes, this.content.length)
    this.content = next
    this.touch(from, end - from)
  }

  touch(offset: number, length: number): void {
    const last = Math.floor((offset + length - 1) / this.blockBytes)
    for (let block = Math.floor(offset / this.blockBytes); block <= last; block += 1) this.#touchBlock(block)
  }

  #touchBlock(block: number): void {
    for (const { touched } of this.instants) touched.add(block)
    for (const { touched } of this.named.values()) touched.add(block)
  }
}

/** Blocks in which two contents differ; what only one of them has counts as different. */
export function differingBlocks(a: Buffer, b: Buffer, blockBytes: number): number[] {
  const blocks = Math.ceil(Math.max(a.length, b.length) / blockBytes)
  const found: number[] = []
  for (let block = 0; block < blocks; block += 1) {
    const from = block * blockBytes
    if (!a.subarray(from, from + blockBytes).equals(b.subarray(from, from + blockBytes))) found.push(block)
  }
  return found
}
