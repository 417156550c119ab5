import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import type { Extent } from '../../../src/model/extent.js'
import { temporaryFolder } from '../../temporary.js'
import { checkpointOf } from './checkpoint.js'

// Read when the native calls are first loaded, which is in this file's own process.
beforeAll(() => {
  process.env['REFPOINT_NATIVE'] = 'off'
})

function image(): string {
  const path = join(temporaryFolder(), 'disk.img')
  writeFileSync(path, Buffer.alloc(1 << 20, 'refpoint'))
  return path
}

test('without native calls no lock can be taken: refused, and told why', async () => {
  await expect(checkpointOf({ root: image() }, { cloneFolder: '/proc' })).rejects.toMatchObject({
    code: 'tracker',
    message: expect.stringContaining('package koffi'),
  })
})

test('without native calls it is torn where that is allowed, with a warning, and all of it is data', async () => {
  await using checkpoint = await checkpointOf({ root: image() }, { allowTorn: true, cloneFolder: '/proc' })
  expect(checkpoint.consistency).toBe('torn')
  expect(checkpoint.warnings).toEqual([expect.stringContaining('koffi'), expect.stringContaining('root is torn')])
  const extents: Extent[] = []
  const range = { offset: 0, length: 1 << 20 }
  const { signal } = new AbortController()
  for await (const page of checkpoint.stores[0]?.allocatedExtents(range, { signal }) ?? []) extents.push(...page)
  expect(extents).toEqual([{ offset: 0, length: 1 << 20, kind: 'data' }])
})
