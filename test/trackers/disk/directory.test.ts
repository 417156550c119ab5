import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { FileHandle } from '../../../src/files/files.js'
import { nodeFiles } from '../../../src/files/node-files.js'
import { Directory } from '../../../src/trackers/disk/directory.js'
import { temporaryFolder } from '../../temporary.js'

/** A map file whose next writes, or syncs, fail as on a full disk. */
async function failingFile(): Promise<{ handle: FileHandle; fail: { writes: number; syncs: number } }> {
  const file = await nodeFiles.open(join(temporaryFolder(), 'map'), 'create')
  await file.truncate(1 << 20)
  const fail = { writes: 0, syncs: 0 }
  const full = (): Error => Object.assign(new Error('no space left'), { code: 'ENOSPC' })
  const handle: FileHandle = {
    path: file.path,
    fd: file.fd,
    read: (into, offset) => file.read(into, offset),
    write: async (pieces, offset) => {
      if (fail.writes-- > 0) throw full()
      await file.write(pieces, offset)
    },
    truncate: (sizeBytes) => file.truncate(sizeBytes),
    zero: (offset, length) => file.zero(offset, length),
    size: () => file.size(),
    sync: async () => {
      if (fail.syncs-- > 0) throw full()
      await file.sync()
    },
    close: () => file.close(),
  }
  return { handle, fail }
}

test.each(['writes', 'syncs'] as const)('a mark of which %s failed is made when the guest tries again', async (what) => {
  const { handle, fail } = await failingFile()
  const directory = await Directory.load(handle, 100)
  fail[what] = 1
  await expect(directory.mark([3, 4], 7)).rejects.toMatchObject({ code: 'ENOSPC' })
  expect(directory.isMarked(3)).toBe(false)
  // What a crash would leave now is unknown: nothing may be taken for marked before it is.
  await directory.mark([3, 4], 7)
  expect(directory.isMarked(3)).toBe(true)
  const asAfterACrash = await Directory.load(handle, 100)
  expect([...asAfterACrash.coarse.subarray(2, 6)]).toEqual([0, 7, 7, 0])
  expect(directory.residual.size).toBe(0)
  await handle.close()
})

test('a mark of a crash before still stands after a mark that failed', async () => {
  const { handle, fail } = await failingFile()
  const before = await Directory.load(handle, 100)
  await before.mark([5], 6)
  const directory = await Directory.load(handle, 100)
  fail.writes = 1
  await expect(directory.mark([5], 9)).rejects.toMatchObject({ code: 'ENOSPC' })
  await directory.mark([5], 9)
  expect(directory.standing(5)).toBe(6)
  expect((await Directory.load(handle, 100)).coarse[5]).toBe(9)
  await handle.close()
})
