import { describe, expect, it } from 'vitest'
import { ChangeIdExpired } from '../../../src/model/errors.js'
import { assertAnswerable, formatBitmapChangeId, parseBitmapChangeId } from '../../../src/trackers/bitmaps/change-id.js'
import { defaultGranularityBytes } from '../../../src/trackers/bitmaps/granularity.js'
import { formatBitmapName, newInstant, ownerTag, parseBitmapName } from '../../../src/trackers/bitmaps/names.js'

const gib = 1024 ** 3

describe('names of bitmaps', () => {
  it('say whose they are and what they begin at', () => {
    const owner = ownerTag({ repositoryId: 'r', machineUuid: 'm' })
    for (const frozen of [false, true]) {
      const name = { owner, instant: newInstant(), frozen }
      expect(parseBitmapName(formatBitmapName(name))).toEqual(name)
    }
    expect(ownerTag({ repositoryId: 'r', machineUuid: 'n' })).not.toBe(owner)
    expect(newInstant()).not.toBe(newInstant())
  })

  it('of others are not taken for ours', () => {
    for (const name of ['', 'refpoint-', 'bitmap0', 'refpoint-00-00', `refpoint-${'0'.repeat(16)}-${'g'.repeat(16)}`]) {
      expect(parseBitmapName(name)).toBeUndefined()
    }
  })
})

describe('change IDs of bitmaps', () => {
  const since = { instant: '0123456789abcdef', granularityBytes: 8192, sizeBytes: 1024 * gib, below: 'none' }
  const state = { granularityBytes: 8192, recording: true, inconsistent: false }

  it('come back as they were', () => {
    for (const below of ['none', 'unknown', '0123456789abcdef']) {
      expect(parseBitmapChangeId(formatBitmapChangeId({ ...since, below }))).toEqual({ ...since, below })
    }
  })

  it.each(['', 'bitmap', 'bitmap:0:8192:1', `bitmap:${since.instant}:0:1`, 'b5b1f5ee-0000-4000-8000-000000000001:1:0'])(
    'expire when nobody here gave them: "%s"',
    (text) => {
      expect(() => parseBitmapChangeId(text)).toThrow(ChangeIdExpired)
    },
  )

  it('are answered only by exactly that bitmap, recording all the while', () => {
    expect(() => assertAnswerable(since, state, since)).not.toThrow()
    const cases = [
      [state, { ...since, sizeBytes: since.sizeBytes + 512 }, 'resized'],
      [undefined, since, 'unknown'],
      [{ ...state, inconsistent: true, recording: false }, since, 'inconsistent'],
      [{ ...state, recording: false }, since, 'inconsistent'],
      [{ ...state, granularityBytes: 65_536 }, since, 'inconsistent'],
      [state, { ...since, below: '0123456789abcdef' }, 'other-disk'],
      [state, { ...since, below: 'unknown' }, 'untracked'],
    ] as const
    for (const [bitmap, disk, reason] of cases) {
      expect(() => assertAnswerable(since, bitmap, disk)).toThrow(expect.objectContaining({ reason }))
    }
    const unsure = { ...since, below: 'unknown' }
    expect(() => assertAnswerable(unsure, state, unsure)).toThrow(expect.objectContaining({ reason: 'untracked' }))
  })
})

describe('the granularity of bitmaps', () => {
  it('is 8 KiB up to 1 TiB, and then such that a bitmap has at most 2^27 bits', () => {
    expect(defaultGranularityBytes(0)).toBe(8192)
    expect(defaultGranularityBytes(1024 * gib)).toBe(8192)
    expect(defaultGranularityBytes(1024 * gib + 512)).toBe(16_384)
    expect(defaultGranularityBytes(16 * 1024 * gib)).toBe(131_072)
  })
})
