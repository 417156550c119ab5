import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import type { ReferencePoint } from '../../../src/model/reference-point.js'
import { describeWith } from '../../layers.js'
import { guestBytes, installGuest, untilTurns } from '../../qemu/guest.js'
import { blockdevDisk, makeImage } from '../../qemu/images.js'
import { temporaryFolder } from '../../temporary.js'
import { changesOf, checkpoint, contentOf, owner, pointOf, storeOf } from './checkpoints.js'
import { expectNothingLeft } from './left-over.js'
import { LiveMachine } from './live-machine.js'

const disks = ['root', 'data'] as const

/** Has QEMU itself copy a disk, by a job that knows nothing of checkpoints; the guest must stand still meanwhile. */
async function copyByQemu(machine: LiveMachine, disk: string, round: number): Promise<string> {
  const { monitor } = machine.qemu
  const path = await makeImage(join(machine.folder, `${disk}-${round}.oracle`), 'raw', guestBytes)
  const [target, job] = [`oracle-${disk}-${round}`, `copy-${disk}-${round}`]
  await monitor.execute('blockdev-add', { driver: 'raw', 'node-name': target, file: { driver: 'file', filename: path } })
  const done = monitor.waitForEvent(({ event, data }) => event === 'BLOCK_JOB_COMPLETED' && data['device'] === job)
  await monitor.execute('blockdev-backup', { 'job-id': job, device: `${disk}-node`, target, sync: 'full' })
  expect((await done).data['error']).toBeUndefined()
  await monitor.execute('blockdev-del', { 'node-name': target })
  return path
}

describeWith(['qemu-system-x86_64', 'qemu-img', 'qemu-io'], 'points of a guest that writes as fast as it can', () => {
  it('are what QEMU itself copies at that instant, a full and five incrementals', async () => {
    const folder = temporaryFolder()
    const root = await makeImage(join(folder, 'root.qcow2'), 'qcow2', guestBytes)
    const data = await makeImage(join(folder, 'data.raw'), 'raw', guestBytes)
    await installGuest(root, 'qcow2', { pauseTicks: 0 })
    const args = [...blockdevDisk('root', root, 'qcow2'), ...blockdevDisk('data', data, 'raw')]
    const machine = await LiveMachine.start(folder, args, { runs: true })
    const tracker = machine.tracker()
    const restored = new Map<string, Buffer>(disks.map((disk) => [disk, Buffer.alloc(guestBytes)]))
    let previous: ReferencePoint | undefined
    for (let round = 0; round < 6; round += 1) {
      await untilTurns(machine.qemu, 30)
      // The guest stands still from before the instant until the copy is made, and writes on while we read.
      await machine.qemu.monitor.execute('stop')
      const taken = await checkpoint(tracker, previous)
      const copies = new Map<string, string>()
      for (const disk of disks) copies.set(disk, await copyByQemu(machine, disk, round))
      await machine.qemu.monitor.execute('cont')
      await untilTurns(machine.qemu, 10)
      for (const disk of disks) {
        const store = storeOf(taken, disk)
        const content = await contentOf(store)
        const image = restored.get(disk) ?? Buffer.alloc(0)
        const whole = [{ offset: 0, length: guestBytes }]
        const changes = previous === undefined ? whole : await changesOf(taken, disk, previous)
        for (const { offset, length } of changes) content.copy(image, offset, offset, offset + length)
        const copy = await readFile(copies.get(disk) ?? '')
        expect(content.equals(copy), `disk ${disk}, round ${round}: what is read`).toBe(true)
        expect(image.equals(copy), `disk ${disk}, round ${round}: what is put together from changes`).toBe(true)
      }
      const point = pointOf(taken, round + 1)
      await tracker.release(point, owner)
      await taken[Symbol.asyncDispose]()
      previous = point
    }
    await expectNothingLeft(machine)
  }, 300_000)
})
