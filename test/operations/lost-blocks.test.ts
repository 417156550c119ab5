import * as fc from 'fast-check'
import { expect, it } from 'vitest'
import { type Loss, LostBlocks, type LostRange, overlay } from '../../src/operations/salvage/lost-blocks.js'

const because = (reason: string): Loss => ({ kind: 'lost', point: 1, archive: 'a', reason })
const upperLoss = because('upper')
const lowerLoss = because('lower')
const blockBytes = 65_536

/** Ranges of the blocks whose bit is set. */
function rangesOf(bits: readonly boolean[], loss: Loss): readonly LostRange[] {
  const lost = new LostBlocks()
  bits.forEach((set, block) => {
    if (set) lost.addRanges([{ offset: block * blockBytes, length: blockBytes }], loss)
  })
  return lost.ranges(bits.length * blockBytes)
}

it('lays one list over another as if block by block, ascending and joined', () => {
  const bits = fc.array(fc.boolean(), { minLength: 40, maxLength: 40 })
  fc.assert(
    fc.property(bits, bits, (above, below) => {
      const merged = overlay(rangesOf(above, upperLoss), rangesOf(below, lowerLoss))
      const told = above.map(() => '')
      let end = 0
      for (const { offset, length, reason } of merged) {
        expect(offset).toBeGreaterThanOrEqual(end)
        end = offset + length
        for (let at = offset; at < end; at += blockBytes) told[at / blockBytes] = reason
      }
      expect(told).toEqual(above.map((set, block) => (set ? 'upper' : below[block] === true ? 'lower' : '')))
      const changes = told.filter((reason, block) => reason !== '' && reason !== told[block - 1]).length
      expect(merged).toHaveLength(changes)
    }),
    { numRuns: 2000 },
  )
})

it('widens ranges to whole blocks, and tells the first of several causes', () => {
  const lost = new LostBlocks()
  lost.addRanges([{ offset: blockBytes + 512, length: blockBytes }], upperLoss)
  lost.addRanges([{ offset: 2 * blockBytes, length: 2 * blockBytes }], lowerLoss)
  expect(lost.ranges(3 * blockBytes + 512)).toEqual([
    { offset: blockBytes, length: 2 * blockBytes, ...upperLoss },
    { offset: 3 * blockBytes, length: 512, ...lowerLoss },
  ])
})
