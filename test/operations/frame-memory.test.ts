import { describe, expect, it } from 'vitest'
import { FrameMemory } from '../../src/operations/frame-memory.js'
import { FRAME_ROOM } from '../../src/operations/tasks/read-chunk.js'

describe('memory for frames', () => {
  it('is shared and has room for the largest frame', () => {
    const memory = new FrameMemory().take()
    expect(memory).toBeInstanceOf(SharedArrayBuffer)
    expect(memory.byteLength).toBe(FRAME_ROOM)
    // What does not compress grows by a little: a frame of a mebibyte of noise must fit.
    expect(FRAME_ROOM).toBeGreaterThan(1_048_576)
  })

  it('is never given to two at once, and used again when it was given back', () => {
    const frames = new FrameMemory()
    const taken = [frames.take(), frames.take(), frames.take()]
    expect(new Set(taken).size).toBe(3)
    for (const memory of taken) frames.give(memory)
    const again = [frames.take(), frames.take(), frames.take(), frames.take()]
    expect(new Set(again).size).toBe(4)
    expect(again.filter((memory) => taken.includes(memory))).toHaveLength(3)
  })
})
