import { describe, expect, it } from 'vitest'
import { planBackup, type PlanInput, type StoreEvidence } from '../../src/model/planner.js'
import { aPoint, aStore } from './manifests.js'

const sizeBytes = 1_048_576
const root: StoreEvidence = { name: 'root', sizeBytes, keepsChangeIds: true, tracked: 'yes', distrust: null }
const lost: StoreEvidence = {
  name: 'root',
  sizeBytes,
  keepsChangeIds: true,
  tracked: { expired: 'unknown', explanation: 'generation 7 is not known' },
  distrust: null,
}
const untracked: StoreEvidence = { name: 'root', sizeBytes, keepsChangeIds: false, tracked: undefined, distrust: null }
const data: StoreEvidence = { name: 'data', sizeBytes, keepsChangeIds: false, tracked: undefined, distrust: null }

function plan(changes: Partial<PlanInput>): ReturnType<typeof planBackup> {
  return planBackup({
    request: 'auto',
    parent: aPoint({ point: 4 }),
    parentProblem: undefined,
    fullDue: undefined,
    stores: [root],
    ...changes,
  })
}

describe('planBackup', () => {
  it.each<[string, Partial<PlanInput>, number | null, string, string]>([
    ['the first point', { parent: undefined }, null, 'full', 'first point of this machine'],
    [
      'no whole point',
      { parent: undefined, parentProblem: 'no earlier point is whole' },
      null,
      'full',
      'no earlier point is whole',
    ],
    ['--full', { request: 'full' }, null, 'full', 'asked for by --full'],
    ['a tracker that vouches', {}, 4, 'tracked', 'changes since point #4'],
    [
      'a tracker that lost track',
      { stores: [lost] },
      4,
      'compared',
      'compared with point #4: tracking lost: generation 7 is not known',
    ],
    [
      'a tracker that was caught',
      { stores: [{ ...root, distrust: { since: 3, what: 'called 2 blocks unchanged that are not' } }] },
      4,
      'compared',
      'compared with point #4: its tracker is not trusted since #3, when it called 2 blocks unchanged that are not',
    ],
    ['no tracking', { stores: [untracked] }, 4, 'compared', 'compared with point #4: nothing tracks its changes'],
    [
      'a resize',
      { stores: [{ ...root, sizeBytes: 2 * sizeBytes }] },
      4,
      'tracked',
      'changes since point #4; resized from 1048576 to 2097152 bytes',
    ],
    ['another store', { stores: [data] }, null, 'full', 'new store, not in point #4'],
  ])('%s', (_name, input, parent, mode, reason) => {
    const planned = plan(input)
    expect(planned).toMatchObject({ kind: 'point', parent, stores: [{ mode, reason }] })
  })

  it('decides for every store by itself', () => {
    const planned = plan({ stores: [root, data], parent: aPoint({ point: 4 }) })
    expect(planned).toMatchObject({ parent: 4, stores: [{ mode: 'tracked' }, { mode: 'full' }] })
  })

  it('tells a parent that was not tracked from a store that is not', () => {
    const parent = aPoint({ point: 4, stores: [aStore({ changeId: null })] })
    expect(plan({ parent, stores: [{ ...root, tracked: undefined, distrust: null }] })).toMatchObject({
      stores: [{ reason: 'compared with point #4: nothing tracked its changes then' }],
    })
  })

  it.each<[string, Partial<PlanInput>]>([
    ['there is no parent', { parent: undefined }],
    ['a store is new', { stores: [root, data] }],
  ])('refuses --incremental when %s', (_name, input) => {
    expect(plan({ ...input, request: 'incremental' })).toMatchObject({ kind: 'refused' })
  })

  it('takes a compared store as an incremental', () => {
    expect(plan({ request: 'incremental', stores: [lost] })).toMatchObject({ kind: 'point', parent: 4 })
  })
})
