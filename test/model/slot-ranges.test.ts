import fc from 'fast-check'
import { expect, it } from 'vitest'
import { inRanges, joinSlots, withoutSlots } from '../../src/model/slot-ranges.js'

const slots = fc.array(fc.integer({ min: 1, max: 60 }), { maxLength: 40 })

it('ranges hold just the slots that were put in, in the fewest', () => {
  fc.assert(
    fc.property(slots, slots, (some, more) => {
      const ranges = joinSlots(joinSlots([], some), more)
      const all = new Set([...some, ...more])
      for (let slot = 0; slot <= 62; slot += 1) expect(inRanges(ranges, slot)).toBe(all.has(slot))
      for (const [i, [first]] of ranges.entries()) if (i > 0) expect(first).toBeGreaterThan((ranges[i - 1]?.[1] ?? 0) + 1)
    }),
  )
})

it('ranges hold just what is left when slots are taken out', () => {
  fc.assert(
    fc.property(slots, slots, (held, taken) => {
      const left = withoutSlots(joinSlots([], held), taken)
      for (let slot = 0; slot <= 62; slot += 1) expect(inRanges(left, slot)).toBe(held.includes(slot) && !taken.includes(slot))
      expect(left).toEqual(joinSlots(left, []))
    }),
  )
})
