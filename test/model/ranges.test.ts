import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Range } from '../../src/model/extent.js'
import { DIGEST_BLOCK_BYTES } from '../../src/model/geometry.js'
import { mergeRanges, sizeChangeRanges } from '../../src/model/ranges.js'

async function* paged(ranges: readonly Range[], pageSize: number): AsyncGenerator<readonly Range[]> {
  for (let i = 0; i < ranges.length; i += pageSize) yield ranges.slice(i, i + pageSize)
}

async function collect(ranges: AsyncIterable<Range>): Promise<Range[]> {
  const list: Range[] = []
  for await (const range of ranges) list.push(range)
  return list
}

const ascending = fc.array(fc.tuple(fc.nat(10), fc.integer({ min: 1, max: 15 })), { maxLength: 15 }).map((pieces) => {
  let next = 0
  return pieces.map(([gap, length]): Range => {
    const offset = next + gap
    next = offset + length
    return { offset, length }
  })
})

function covered(ranges: readonly Range[], limit: number): Set<number> {
  const bytes = new Set<number>()
  for (const { offset, length } of ranges) for (let at = offset; at < offset + length && at < limit; at++) bytes.add(at)
  return bytes
}

describe('mergeRanges', () => {
  it('covers just what either has, below the limit, in ranges that neither overlap nor touch', async () => {
    await fc.assert(
      fc.asyncProperty(
        ascending,
        ascending,
        fc.integer({ min: 1, max: 5 }),
        fc.nat(200),
        async (a, b, pageSize, limit) => {
          const merged = await collect(mergeRanges(paged(a, pageSize), b, limit))
          expect(covered(merged, Number.POSITIVE_INFINITY)).toEqual(
            new Set([...covered(a, limit), ...covered(b, limit)]),
          )
          for (const [i, range] of merged.entries()) {
            const before = merged[i - 1]
            if (before !== undefined) expect(range.offset).toBeGreaterThan(before.offset + before.length)
            expect(range.length).toBeGreaterThan(0)
          }
        },
      ),
    )
  })

  it('refuses ranges that do not ascend', async () => {
    const wrong = paged(
      [
        { offset: 10, length: 5 },
        { offset: 12, length: 5 },
      ],
      1,
    )
    await expect(collect(mergeRanges(wrong, [], 100))).rejects.toThrow('do not ascend')
  })
})

describe('sizeChangeRanges', () => {
  const block = DIGEST_BLOCK_BYTES
  it.each([
    ['same size', 5 * block, 5 * block, []],
    ['grown at a block boundary', 5 * block, 7 * block, [{ offset: 5 * block, length: 2 * block }]],
    ['grown within a block', 5 * block + 100, 7 * block, [{ offset: 5 * block, length: 2 * block }]],
    ['shrunk to a block boundary', 7 * block, 5 * block, []],
    ['shrunk into a block', 7 * block, 5 * block + 512, [{ offset: 5 * block, length: 512 }]],
    ['grown from nothing', 0, 10, [{ offset: 0, length: 10 }]],
  ])('%s', (_name, before, after, expected) => {
    expect(sizeChangeRanges(before, after)).toEqual(expected)
  })
})
