import { createHash, randomBytes } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import fc from 'fast-check'
import { ContentSum } from '../../src/archive/content-sum.js'

/** FORMAT.md §7, word by word. */
function bySpecification(blocks: readonly (readonly [number, Uint8Array])[]): string {
  let sum = 0n
  for (const [block, digest] of blocks) {
    const index = Buffer.alloc(4)
    index.writeUInt32LE(block)
    sum += BigInt(`0x${createHash('sha256').update(index).update(digest).digest('hex')}`)
  }
  return (sum % 2n ** 256n).toString(16).padStart(64, '0')
}

const entry = fc.tuple(fc.integer({ min: 0, max: 2 ** 32 - 1 }), fc.uint8Array({ minLength: 16, maxLength: 16 }))

describe('the content sum', () => {
  it('is what the specification says', () => {
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 40 }), (blocks) => {
        const sum = new ContentSum()
        for (const [block, digest] of blocks) sum.add(block, digest)
        expect(sum.toHex()).toBe(bySpecification(blocks))
      }),
    )
  })

  it('takes blocks out again, and merges partial sums in any order', () => {
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 20 }), fc.array(entry, { maxLength: 20 }), (kept, gone) => {
        const first = new ContentSum()
        for (const [block, digest] of gone) first.subtract(block, digest)
        for (const [block, digest] of kept) first.add(block, digest)
        const second = new ContentSum()
        for (const [block, digest] of gone) second.add(block, digest)
        const merged = new ContentSum()
        merged.addHex(second.toHex())
        merged.addHex(first.toHex())
        expect(merged.toHex()).toBe(bySpecification(kept))
      }),
    )
  })

  it('stays exact over more blocks than fit without carrying', () => {
    const digest = randomBytes(16)
    const sum = new ContentSum()
    const count = 2 ** 20 + 5
    for (let times = 0; times < count; times += 1) sum.add(7, digest)
    const once = BigInt(`0x${bySpecification([[7, digest]])}`)
    expect(sum.toHex()).toBe(((once * BigInt(count)) % 2n ** 256n).toString(16).padStart(64, '0'))
  })

  it('reads a digest from a column, and refuses what is none', () => {
    const digests = randomBytes(48)
    const [column, single] = [new ContentSum(), new ContentSum()]
    column.add(3, digests, 16)
    single.add(3, digests.subarray(16, 32))
    expect(column.toHex()).toBe(single.toHex())
    expect(new ContentSum().toHex()).toBe('0'.repeat(64))
    expect(() => column.add(1, digests, 40)).toThrow('16 bytes')
    expect(() => column.addHex('12')).toThrow('not a content sum')
  })
})
