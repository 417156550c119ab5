import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { DigestWindow } from '../../src/model/digest-window.js'
import { STATE_DIGEST, STATE_NONE, STATE_UNKNOWN, STATE_ZERO } from '../../src/model/geometry.js'
import type { DigestColumns } from '../../src/model/tables.js'

const BLOCKS = 60

interface Run {
  first: number
  blocks: number
  state: number
  fill: number
}

const runsOfArchive = fc
  .array(
    fc.record({
      gap: fc.nat(8),
      blocks: fc.integer({ min: 1, max: 10 }),
      state: fc.constantFrom(STATE_DIGEST, STATE_ZERO, STATE_UNKNOWN),
      fill: fc.integer({ min: 1, max: 255 }),
    }),
    { maxLength: 8 },
  )
  .map((pieces) => {
    let next = 0
    return pieces.map(({ gap, ...run }): Run => {
      const first = next + gap
      next = first + run.blocks
      return { first, ...run }
    })
  })

function columns(runs: readonly Run[]): DigestColumns {
  const digests: number[] = []
  for (const run of runs) {
    if (run.state === STATE_DIGEST)
      for (let n = 0; n < run.blocks; n++) digests.push(...Array.from({ length: 16 }, () => (run.fill + n) % 256))
  }
  return {
    count: runs.length,
    first: Uint32Array.from(runs, (run) => run.first),
    blocks: Uint32Array.from(runs, (run) => run.blocks),
    state: Uint32Array.from(runs, (run) => run.state),
    digests: Uint8Array.from(digests),
  }
}

describe('DigestWindow', () => {
  it('keeps the newest entry of each block', () => {
    fc.assert(
      fc.property(fc.array(runsOfArchive, { minLength: 1, maxLength: 5 }), (archives) => {
        const window = new DigestWindow(BLOCKS)
        const expected: (string | undefined)[] = Array.from({ length: BLOCKS }, () => undefined)
        for (const runs of archives) {
          window.addOlder(columns(runs))
          for (const run of runs) {
            for (let n = 0; n < run.blocks && run.first + n < BLOCKS; n++) {
              expected[run.first + n] ??=
                run.state === STATE_DIGEST ? `digest ${(run.fill + n) % 256}` : `state ${run.state}`
            }
          }
        }
        const found = Array.from({ length: BLOCKS }, (_, block) => {
          const state = window.state[block]
          if (state === STATE_NONE) return undefined
          if (state !== STATE_DIGEST) return `state ${state}`
          const digest = window.digest(block)
          expect(new Set(digest).size).toBe(1)
          return `digest ${digest[0]}`
        })
        expect(found).toEqual(expected)
        expect(window.complete).toBe(expected.every((entry) => entry !== undefined))
      }),
    )
  })
})
