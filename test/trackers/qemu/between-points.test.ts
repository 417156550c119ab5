import { join } from 'node:path'
import { expect, it } from 'vitest'
import type { ReferencePoint } from '../../../src/model/reference-point.js'
import { describeWith } from '../../layers.js'
import { blockdevDisk, makeImage, virtioDisk } from '../../qemu/images.js'
import { temporaryFolder } from '../../temporary.js'
import { bitmapsOf, expectNothingLeft, leftOver } from './left-over.js'
import { changesOf, checkpoint, commit, contentOf, pointOf, storeOf } from './checkpoints.js'
import { LiveMachine } from './live-machine.js'

const mib = 1024 * 1024
const two = [
  { name: 'root', format: 'qcow2', sizeBytes: 8 * mib },
  { name: 'data', format: 'raw', sizeBytes: 4 * mib },
] as const

/** A machine of a qcow2 and a raw disk that was backed up once. */
async function backedUp(): Promise<{ machine: LiveMachine; point: ReferencePoint }> {
  const machine = await LiveMachine.withDisks(two)
  await machine.qemu.write(virtioDisk('root'), Buffer.alloc(mib, 1), 6 * mib)
  return { machine, point: await commit(machine.tracker()) }
}

/** What the next run is told of both disks: the ranges, or why there are none. */
async function told(machine: LiveMachine, point: ReferencePoint): Promise<unknown[]> {
  await using taken = await checkpoint(machine.tracker(), point)
  const answers: unknown[] = []
  for (const { name } of taken.stores) {
    answers.push(await changesOf(taken, name, point).catch((error: { readonly reason: string }) => error.reason))
  }
  await taken[Symbol.asyncDispose]()
  await expectNothingLeft(machine)
  return answers
}

const execute = (machine: LiveMachine, command: string, args: object = {}) => machine.qemu.monitor.execute(command, args)

describeWith(['qemu-system-x86_64', 'qemu-img', 'qemu-io'], 'between two points of a running machine', () => {
  it.each([
    ['quit', async (machine: LiveMachine) => await machine.qemu.quit()],
    ['SIGTERM', async (machine: LiveMachine) => await machine.qemu.end('SIGTERM')],
  ])('it may end by %s and start: qcow2 goes on, raw is compared', async (_, end) => {
    const { machine, point } = await backedUp()
    await machine.qemu.write(virtioDisk('root'), Buffer.alloc(512, 2), 65_536)
    await end(machine)
    await machine.restart()
    await machine.qemu.write(virtioDisk('root'), Buffer.alloc(512, 2), 4 * mib)
    expect(await told(machine, point)).toEqual([
      [{ offset: 65_536, length: 8192 }, { offset: 4 * mib, length: 8192 }],
      'unknown',
    ])
  })

  it('it may be killed: what was not saved is not believed', async () => {
    const { machine, point } = await backedUp()
    // A bitmap that was stored once is found in use, and one that never was is gone.
    await machine.qemu.quit()
    await machine.restart()
    await machine.qemu.kill()
    await machine.restart()
    expect(await told(machine, point)).toEqual(['inconsistent', 'unknown'])
    expect((await bitmapsOf(machine.qemu.monitor)).length).toBe(3)
    const again = await commit(machine.tracker(), point)
    expect((await bitmapsOf(machine.qemu.monitor)).length).toBe(2)
    expect(await told(machine, again)).toEqual([[], []])
  })

  it.each([
    ['removed', 'block-dirty-bitmap-remove', 'unknown'],
    ['stopped', 'block-dirty-bitmap-disable', 'inconsistent'],
  ])('somebody may have %s its bitmap', async (_, command, reason) => {
    const { machine, point } = await backedUp()
    const [name] = (await bitmapsOf(machine.qemu.monitor)).filter((bitmap) => bitmap.includes(instantOf(point, 'root')))
    await execute(machine, command, { node: 'root-node', name })
    expect(await told(machine, point)).toEqual([reason, []])
  })

  it('a disk may be resized, or replaced by another one', async () => {
    const { machine, point } = await backedUp()
    await execute(machine, 'block_resize', { 'node-name': 'root-node', size: 9 * mib })
    expect(await told(machine, point)).toEqual(['resized', []])
    await machine.qemu.quit()
    const swapped = await makeImage(join(machine.folder, 'other.qcow2'), 'qcow2', 8 * mib)
    await machine.restart([...blockdevDisk('root', swapped, 'qcow2'), ...blockdevDisk('data', join(machine.folder, 'data.raw'), 'raw')])
    expect(await told(machine, point)).toEqual(['unknown', 'unknown'])
  })

  it('disks may be added and taken away while it runs', async () => {
    const { machine, point } = await backedUp()
    const path = await makeImage(join(machine.folder, 'more.qcow2'), 'qcow2', 2 * mib)
    await execute(machine, 'blockdev-add', { driver: 'qcow2', 'node-name': 'more-node', file: { driver: 'file', filename: path } })
    await execute(machine, 'device_add', { driver: 'virtio-blk-pci', id: 'more', drive: 'more-node', bus: 'pci.0' })
    await using taken = await checkpoint(machine.tracker(), point)
    expect(taken.stores.map(({ name }) => name)).toEqual(['root', 'data', 'more'])
    expect(await changesOf(taken, 'root', point)).toEqual([])
    await expect(changesOf(taken, 'more', point)).rejects.toMatchObject({ reason: 'unknown' })
  })

  it('somebody may take a snapshot, and commit it: compared above, right again below', async () => {
    const { machine, point } = await backedUp()
    const path = await makeImage(join(machine.folder, 'above.qcow2'), 'qcow2', 8 * mib)
    await execute(machine, 'blockdev-add', { driver: 'qcow2', 'node-name': 'above', file: { driver: 'file', filename: path }, backing: null })
    await execute(machine, 'blockdev-snapshot', { node: 'root-node', overlay: 'above' })
    await machine.qemu.write(virtioDisk('root'), Buffer.alloc(512, 3), 2 * mib)
    expect(await told(machine, point)).toEqual(['unknown', []])

    const ready = machine.qemu.monitor.waitForEvent(({ event }) => event === 'BLOCK_JOB_READY')
    await execute(machine, 'block-commit', { 'job-id': 'commit', device: 'above' })
    await ready
    const completed = machine.qemu.monitor.waitForEvent(({ event }) => event === 'BLOCK_JOB_COMPLETED')
    await execute(machine, 'block-job-complete', { device: 'commit' })
    await completed
    await using taken = await checkpoint(machine.tracker(), point)
    expect(await changesOf(taken, 'root', point)).toEqual([{ offset: 2 * mib, length: 65_536 }])
    expect((await contentOf(storeOf(taken, 'root'))).subarray(2 * mib, 2 * mib + 512).equals(Buffer.alloc(512, 3))).toBe(true)
  })

  it('a disk may not be cut off, or get a snapshot, during a backup: told, and everything comes out again', async () => {
    const folder = temporaryFolder()
    const path = await makeImage(join(folder, 'root.qcow2'), 'qcow2', 8 * mib)
    const drive = ['-drive', `file=${path},if=none,id=root`, '-device', 'virtio-blk-pci,drive=root']
    const machine = await LiveMachine.start(folder, drive)
    const taken = await checkpoint(machine.tracker())
    await taken.assertStable()
    await execute(machine, 'block_resize', { device: 'root', size: 4 * mib })
    await expect(taken.assertStable()).rejects.toMatchObject({ code: 'tracker', message: expect.stringContaining('resized') })
    const above = join(folder, 'above.qcow2')
    await execute(machine, 'blockdev-snapshot-sync', { device: 'root', 'snapshot-file': above, format: 'qcow2' })
    await taken[Symbol.asyncDispose]()
    // The filter that does nothing is below the snapshot now, and can't go before it does.
    expect(await leftOver(machine)).toEqual([expect.stringMatching(/-thr$/), expect.stringMatching(/-grp$/)])
    await using next = await checkpoint(machine.tracker())
    expect(next.warnings.join()).toContain('stays in QEMU')
    expect((await contentOf(storeOf(next, 'root'))).length).toBe(4 * mib)
    await next[Symbol.asyncDispose]()
    await machine.qemu.quit()
    await machine.restart(drive.map((arg) => arg.replace(path, above)))
    await using again = await checkpoint(machine.tracker())
    expect(storeOf(again, 'root').sizeBytes).toBe(4 * mib)
    await again[Symbol.asyncDispose]()
    await expectNothingLeft(machine)
  })

  it('the guest may zero and trim: told as changed, and read as zeroes', async () => {
    const { machine, point } = await backedUp()
    await machine.qemu.io(virtioDisk('root'), 'write -z 6M 128k')
    await machine.qemu.io(virtioDisk('root'), 'discard 6400k 128k')
    await using taken = await checkpoint(machine.tracker(), point)
    const changed = await changesOf(taken, 'root', point)
    expect(changed).toEqual([{ offset: 6 * mib, length: 131_072 }, { offset: 6400 * 1024, length: 131_072 }])
    const content = await contentOf(storeOf(taken, 'root'))
    for (const { offset, length } of changed) {
      expect(content.subarray(offset, offset + length).every((byte) => byte === 0)).toBe(true)
    }
  })

  it('two repositories back it up at the same time, in turns, and neither cleans the other’s', async () => {
    const machine = await LiveMachine.withDisks(two)
    const [a, b] = ['a', 'b'].map((repositoryId) => ({ repositoryId, machineUuid: 'machine' })) as [
      { repositoryId: string; machineUuid: string },
      { repositoryId: string; machineUuid: string },
    ]
    const [pointA, pointB] = await Promise.all([commit(machine.tracker(), undefined, a), commit(machine.tracker(), undefined, b)])
    await machine.qemu.write(virtioDisk('root'), Buffer.alloc(512, 5), 0)
    const nextA = await commit(machine.tracker(), pointA, a)
    await machine.qemu.write(virtioDisk('root'), Buffer.alloc(512, 5), mib)
    for (const [by, since, expected] of [[a, nextA, [mib]], [b, pointB, [0, mib]]] as const) {
      await using taken = await checkpoint(machine.tracker(), since, by)
      expect((await changesOf(taken, 'root', since)).map(({ offset }) => offset)).toEqual(expected)
    }
    await expectNothingLeft(machine)
    const impatient = machine.tracker({ waitMs: 2_000 })
    await using held = await checkpoint(machine.tracker(), pointB, b)
    expect(held.stores).toHaveLength(2)
    await expect(checkpoint(impatient, nextA, a)).rejects.toMatchObject({ code: 'locked', fields: { pid: String(process.pid) } })
    // Through QEMU's other monitor, too: it is one machine.
    machine.qemu.monitor.close()
    const beside = machine.tracker({ waitMs: 2_000, qmp: join(machine.folder, 'machine.monitor') })
    await expect(checkpoint(beside, nextA, a)).rejects.toMatchObject({ code: 'locked' })
  })

  it('what a killed run of another repository left is not touched, and does not disturb', async () => {
    const { machine, point } = await backedUp()
    const other = { repositoryId: 'other', machineUuid: 'machine' }
    const abandoned = await checkpoint(machine.tracker(), undefined, other)
    const theirs = pointOf(abandoned)
    // As a kill does: its monitor and its locks go, and everything in QEMU stays.
    await (abandoned as unknown as { session: AsyncDisposable }).session[Symbol.asyncDispose]()
    const before = await leftOver(machine)
    await machine.qemu.write(virtioDisk('root'), Buffer.alloc(512, 6), mib)
    await using taken = await checkpoint(machine.tracker(), point)
    expect((await changesOf(taken, 'root', point)).map(({ offset }) => offset)).toEqual([mib])
    expect((await contentOf(storeOf(taken, 'root'))).subarray(mib, mib + 512).equals(Buffer.alloc(512, 6))).toBe(true)
    await taken[Symbol.asyncDispose]()
    expect(await leftOver(machine)).toEqual(before)
    await using again = await checkpoint(machine.tracker(), theirs, other)
    expect((await changesOf(again, 'root', theirs)).map(({ offset }) => offset)).toEqual([mib])
    await again[Symbol.asyncDispose]()
    await expectNothingLeft(machine)
  })
})

function instantOf(point: ReferencePoint, disk: string): string {
  return point.changeIds[disk]?.split(':')[1] ?? ''
}

