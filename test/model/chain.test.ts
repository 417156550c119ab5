import { describe, expect, it } from 'vitest'
import { storeChain } from '../../src/model/chain.js'
import type { PointManifest } from '../../src/model/manifest.js'
import { aPoint, aStore } from './manifests.js'

const tracked = [aStore({ mode: 'tracked' })]
const full = aPoint({ point: 1 })
const second = aPoint({ point: 2, parent: 1, stores: tracked })
// A parent is a field, not the neighbour: slot 3 was burnt, 4 goes on from 2.
const fourth = aPoint({ point: 4, parent: 2, stores: tracked })

function bySlot(...points: PointManifest[]): Map<number, PointManifest> {
  return new Map(points.map((point) => [point.point, point]))
}

describe('storeChain', () => {
  it('goes by parents down to the full', () => {
    expect(storeChain(fourth, 'root', bySlot(full, second, fourth)).map((point) => point.point)).toEqual([4, 2, 1])
  })

  it('ends where the store is full, though the point has a parent', () => {
    const mixed = aPoint({ point: 5, parent: 4, stores: [aStore({ mode: 'full' })] })
    expect(storeChain(mixed, 'root', bySlot(mixed)).map((point) => point.point)).toEqual([5])
  })

  it.each<[string, PointManifest, PointManifest[], string]>([
    ['a missing ancestor', fourth, [full, fourth], 'its ancestor #2 is missing'],
    ['a parent that is later', aPoint({ point: 2, parent: 7, stores: tracked }), [full], 'which is not earlier'],
    ['an incremental without parent', aPoint({ point: 2, stores: tracked }), [full], 'has no parent'],
    [
      'an ancestor of another machine',
      second,
      [aPoint({ machineUuid: 'ffffffff-1111-4222-8333-444455556666' })],
      'is of another machine',
    ],
    ['an ancestor without the store', second, [aPoint({ stores: [aStore({ name: 'data' })] })], "has no store 'root'"],
  ])('calls %s damage', (_name, point, others, message) => {
    expect(() => storeChain(point, 'root', bySlot(point, ...others))).toThrow(
      expect.objectContaining({ code: 'damaged', message: expect.stringContaining(message) }),
    )
  })
})
