import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { describeWith } from '../../layers.js'
import { makeImage, virtioDisk } from '../../qemu/images.js'
import { changesOf, checkpoint, commit, contentOf, storeOf } from './checkpoints.js'
import { expectNothingLeft } from './left-over.js'
import { LiveMachine } from './live-machine.js'
import { tapQmp } from './qmp-tap.js'

const mib = 1024 * 1024
const sizeBytes = 8 * mib
const two = [
  { name: 'root', format: 'qcow2', sizeBytes },
  { name: 'data', format: 'raw', sizeBytes },
] as const
const disk = virtioDisk('root')

/** Has the guest's disk go on in another image, as an external snapshot does, and the guest write to it. */
async function takeSnapshot({ folder, qemu }: LiveMachine): Promise<void> {
  const filename = await makeImage(join(folder, 'above.qcow2'), 'qcow2', sizeBytes)
  const file = { driver: 'file', filename }
  await qemu.monitor.execute('blockdev-add', { driver: 'qcow2', 'node-name': 'above', file, backing: null })
  await qemu.monitor.execute('blockdev-snapshot', { node: 'root-node', overlay: 'above' })
  await qemu.write(disk, Buffer.alloc(512, 7), 3 * mib)
}

async function migrateAway({ qemu: { monitor } }: LiveMachine): Promise<void> {
  await monitor.execute('migrate', { uri: 'exec:cat > /dev/null' })
  for (;;) {
    const { status } = (await monitor.execute('query-migrate')) as { status: string }
    if (status === 'completed') return
    if (status === 'failed') throw new Error('it did not migrate')
    await pause(20)
  }
}

describeWith(['qemu-system-x86_64', 'qemu-img', 'qemu-io'], 'another program at the same machine', () => {
  it.each([
    ['its next bitmap begins', 'transaction'],
    ['the instant', 'blockdev-reopen'],
  ])('may take a snapshot before %s: no point is taken, and nothing is missed', async (_, command) => {
    const machine = await LiveMachine.withDisks(two)
    const point = await commit(machine.tracker())
    let done = false
    const tap = await tapQmp(machine.qmp, () => {}, async (next) => {
      if (next !== command || done) return
      done = true
      await takeSnapshot(machine)
    })
    await expect(checkpoint(machine.tracker({ qmp: tap.path }), point)).rejects.toMatchObject({
      code: 'tracker',
      message: expect.stringContaining("'root' got another image"),
    })
    await expectNothingLeft(machine)
    await using taken = await checkpoint(machine.tracker(), point)
    await expect(changesOf(taken, 'root', point)).rejects.toMatchObject({ reason: 'unknown' })
    expect((await contentOf(storeOf(taken, 'root')))[3 * mib]).toBe(7)
  })

  it('may move the machine to another QEMU: no point is taken of disks that this one does not write', async () => {
    const machine = await LiveMachine.withDisks(two)
    const point = await commit(machine.tracker())
    await migrateAway(machine)
    await expect(checkpoint(machine.tracker(), point)).rejects.toMatchObject({ fields: { status: 'postmigrate' } })
    await machine.qemu.quit()
    await machine.restart([...machine.args, '-incoming', 'defer'])
    await expect(checkpoint(machine.tracker(), point)).rejects.toMatchObject({ fields: { status: 'inmigrate' } })
  })
})
