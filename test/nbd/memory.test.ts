import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ByteBudget } from '../../src/nbd/byte-budget.js'
import { Coverage } from '../../src/nbd/coverage.js'
import { Payload } from '../../src/nbd/payload.js'
import { bufferBytes, ReadBuffers } from '../../src/nbd/read-buffers.js'

describe('ByteBudget', () => {
  it('never gives more than its ceiling, and serves in line', () => {
    const budget = new ByteBudget(10)
    const order: string[] = []
    expect(budget.take(6, () => {})).toBe(true)
    const large = (): void => void order.push('large')
    const small = (): void => void order.push('small')
    expect(budget.take(8, large)).toBe(false)
    expect(budget.take(1, small)).toBe(false)
    expect(budget.contended).toBe(true)
    budget.give(6)
    expect(order).toEqual(['large', 'small'])
    expect(budget.takenBytes).toBe(9)
    expect(budget.peakBytes).toBe(9)
    expect(() => budget.take(11, () => {})).toThrow(RangeError)
  })

  it('lets those behind pass when the first leaves the line', () => {
    const budget = new ByteBudget(10)
    let granted = false
    const first = (): void => {}
    expect([budget.take(5, first), budget.take(9, first), budget.take(5, () => (granted = true))]).toEqual([
      true, false, false,
    ])
    expect(budget.cancel(first)).toBe(true)
    expect(granted).toBe(true)
    expect(budget.cancel(first)).toBe(false)
  })
})

describe('Payload', () => {
  it('is the bytes that came, and keeps little more than them alive', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 300_000 }),
        fc.array(fc.tuple(fc.oneof(fc.integer({ min: 1, max: 65_536 }), fc.integer({ min: 1, max: 9 })), fc.nat(100)), {
          minLength: 1,
        }),
        (bytes, shapes) => {
          const payload = new Payload(bytes)
          const expected = Buffer.alloc(bytes)
          let filled = 0
          for (let round = 0; !payload.complete; round++) {
            const [length, at] = shapes[round % shapes.length] ?? [1, 0]
            const chunk = Buffer.alloc(length + at, 1 + (round % 255))
            const taken = payload.add(chunk, at)
            expected.fill(1 + (round % 255), filled, filled + taken)
            filled += taken
          }
          expect(filled).toBe(bytes)
          expect(Buffer.concat(payload.pieces).equals(expected)).toBe(true)
          const alive = new Set(payload.pieces.map((piece) => piece.buffer))
          const aliveBytes = [...alive].reduce((sum, buffer) => sum + buffer.byteLength, 0)
          expect(aliveBytes).toBeLessThanOrEqual(Math.ceil((bytes * 8) / 7))
          expect(payload.pieces.length).toBeLessThanOrEqual(1 + bytes / 4096)
        },
      ),
    )
  })
})

describe('Coverage', () => {
  it('agrees with a bitmap', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(40), fc.integer({ min: 1, max: 12 }))), (pieces) => {
        const coverage = new Coverage()
        const bitmap = new Set<number>()
        for (const [start, length] of pieces) {
          const bits = Array.from({ length }, (_, index) => start + index)
          const overlaps = bits.some((bit) => bitmap.has(bit))
          if (overlaps) expect(() => coverage.add(start, start + length)).toThrow(/twice/)
          else {
            coverage.add(start, start + length)
            for (const bit of bits) bitmap.add(bit)
          }
          const whole = Math.max(...bitmap) + 1 === bitmap.size ? bitmap.size : -1
          expect(coverage.covers(bitmap.size)).toBe(whole === bitmap.size)
        }
      }),
    )
  })

  it('takes no endless number of pieces', () => {
    const coverage = new Coverage()
    expect(() => {
      for (let at = 0; at < 100_000; at += 2) coverage.add(at, at + 1)
    }).toThrow(/more than 4096 pieces/)
  })
})

describe('ReadBuffers', () => {
  it('gives buffers of the length that is paid for, and gives them again', () => {
    const buffers = new ReadBuffers()
    for (const bytes of [1, 4096, 4097, 262_144, 1_048_576, 1_048_577, 33_554_432]) {
      const buffer = buffers.take(bytes)
      expect(buffer.length).toBe(bufferBytes(bytes))
      expect(buffer.length).toBeGreaterThanOrEqual(bytes + 64)
      buffers.give(buffer)
      expect(buffers.take(bytes) === buffer).toBe(bytes <= 1_048_576)
    }
  })
})
