import { describe, expect, it } from 'vitest'
import { STORED_BYTES, StoredMemory } from '../../src/operations/fold/stored-memory.js'

describe('memory for stored frames', () => {
  it('has room for what is asked, and never more than twice that, but for the smallest', () => {
    const memory = new StoredMemory()
    for (const bytes of [1, 65_536, 65_537, 300_000, 1_048_576, 1_114_112, 1_114_113, STORED_BYTES]) {
      const { length } = memory.take(bytes)
      expect(length).toBeGreaterThanOrEqual(bytes)
      expect(length).toBeLessThanOrEqual(Math.max(65_536, bytes * 2.2))
    }
  })

  it('gives out again what came back, and nothing that is still in use', () => {
    const memory = new StoredMemory()
    const first = memory.take(100_000)
    expect(memory.take(100_000)).not.toBe(first)
    memory.give(first)
    expect(memory.take(70_000)).toBe(first)
    expect(memory.take(70_000)).not.toBe(first)
  })

  it('refuses more than is read at once', () => {
    expect(() => new StoredMemory().take(STORED_BYTES + 1)).toThrow(RangeError)
  })
})
