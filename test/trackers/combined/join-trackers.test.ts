import { truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { joinTrackers } from '../../../src/trackers/combined/join-trackers.js'
import { createImageTracker } from '../../../src/trackers/image/image-tracker.js'
import { createQcow2Tracker } from '../../../src/trackers/qcow2/qcow2-tracker.js'
import type { Tracker } from '../../../src/trackers/tracker.js'
import { describeWith } from '../../layers.js'
import { makeImage } from '../../qemu/images.js'
import { recall } from '../../recall.js'
import { mountXfs } from '../image/loop-mount.js'
import { holdOpen } from '../qcow2/machine.js'

const owner = { repositoryId: 'repository', machineUuid: 'machine' }
const { signal } = new AbortController()

async function machineIn(folder: string): Promise<{ tracker: Tracker; root: string; swap: string }> {
  const root = await makeImage(join(folder, 'root.qcow2'), 'qcow2', 2 ** 22)
  const swap = join(folder, 'swap.raw')
  writeFileSync(swap, '')
  truncateSync(swap, 2 ** 20)
  const tracker = joinTrackers([
    createQcow2Tracker({ images: { root: { path: root, format: 'qcow2' } }, granularityBytes: undefined }),
    createImageTracker({ stores: { swap: { path: swap, format: 'raw' } }, allowTorn: false }),
  ])
  return { tracker, root, swap }
}

describeWith(['loop-xfs', 'qemu-storage-daemon', 'qemu-img', 'qemu-io'], 'disks of several trackers', () => {
  // A clone of the busy one is an instant, and not the one at which the others are held.
  test('are no one instant where one is in use, though it could be cloned, and none stays locked then', async () => {
    const { tracker, root, swap } = await machineIn(mountXfs().folder)
    const whole = await tracker.checkpoint({ owner, previous: undefined, recall, signal })
    expect(whole.stores.map(({ name }) => name)).toEqual(['root', 'swap'])
    expect(whole.consistency).toBe('offline')
    await whole[Symbol.asyncDispose]()
    const writer = await holdOpen(swap, 'raw')
    const refused = tracker.checkpoint({ owner, previous: undefined, recall, signal })
    await expect(refused).rejects.toMatchObject({ code: 'locked', message: expect.stringContaining('swap') })
    const other = await holdOpen(root)
    expect(other).toBeDefined()
    for (const child of [writer, other]) {
      const ended = new Promise((resolve) => child?.once('exit', resolve))
      child?.kill('SIGKILL')
      await ended
    }
  })
})
