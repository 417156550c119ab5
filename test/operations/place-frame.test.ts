import { expect, it } from 'vitest'
import { placeFrame } from '../../src/operations/tasks/place-frame.js'

it('copies a frame to shared memory, and refuses one that does not fit rather than cutting it off', () => {
  const output = new SharedArrayBuffer(4)
  expect(placeFrame(Uint8Array.of(9, 1, 2, 3).subarray(1), output)).toBe(3)
  expect([...new Uint8Array(output)]).toEqual([1, 2, 3, 0])
  expect(() => placeFrame(new Uint8Array(5), output)).toThrow(RangeError)
})
