import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { createQemuDoctor } from '../../../src/trackers/qemu/doctor/qemu-doctor.js'
import { describeWith } from '../../layers.js'
import { guestBytes, installGuest, untilTurns } from '../../qemu/guest.js'
import { blockdevDisk, makeImage } from '../../qemu/images.js'
import { recall } from '../../recall.js'
import { temporaryFolder } from '../../temporary.js'
import { changesOf, checkpoint, commit, contentOf, owner, signal, storeOf } from './checkpoints.js'
import { expectNothingLeft } from './left-over.js'
import { LiveMachine } from './live-machine.js'

const mib = 1024 * 1024
const scsi = (name: string): string => `/machine/peripheral/${name}`

/** Two SCSI disks, which go without the guest's consent; `blockdev` as libvirt starts them, or `-drive`, as people do. */
async function withScsiDisks(how: 'blockdev' | 'drive'): Promise<LiveMachine> {
  const folder = temporaryFolder()
  const args = ['-device', 'virtio-scsi-pci,id=bus']
  for (const name of ['root', 'data']) {
    const path = await makeImage(join(folder, `${name}.qcow2`), 'qcow2', 4 * mib)
    const node = how === 'blockdev' ? `${name}-node` : name
    if (how === 'drive') args.push('-drive', `file=${path},format=qcow2,if=none,id=${name}`)
    else args.push('-blockdev', `driver=qcow2,node-name=${node},file.driver=file,file.filename=${path}`)
    args.push('-device', `scsi-hd,drive=${node},id=${name},bus=bus.0`)
  }
  return await LiveMachine.start(folder, args)
}

async function unplug({ qemu: { monitor } }: LiveMachine, id: string): Promise<void> {
  const gone = monitor.waitForEvent(({ event, data }) => event === 'DEVICE_DELETED' && data['device'] === id)
  await monitor.execute('device_del', { id })
  await gone
}

describeWith(['qemu-system-x86_64', 'qemu-img', 'qemu-io'], 'a disk that is taken out of a running machine', () => {
  it.each(['blockdev', 'drive'] as const)('between points and during a backup disturbs no other (-%s)', async (how) => {
    const machine = await withScsiDisks(how)
    await machine.qemu.write(scsi('data'), Buffer.alloc(mib, 5), mib)
    const first = await commit(machine.tracker())
    await machine.qemu.write(scsi('root'), Buffer.alloc(512, 6), 0)
    // During the backup: what was frozen is read all the same.
    await using taken = await checkpoint(machine.tracker(), first)
    await unplug(machine, 'data')
    expect((await contentOf(storeOf(taken, 'data'))).subarray(mib, 2 * mib).every((byte) => byte === 5)).toBe(true)
    expect(await changesOf(taken, 'root', first)).toEqual([{ offset: 0, length: 8192 }])
    await taken[Symbol.asyncDispose]()
    await expectNothingLeft(machine)
    // After it: the other one goes on, tracked.
    await machine.qemu.write(scsi('root'), Buffer.alloc(512, 6), mib)
    await using next = await checkpoint(machine.tracker(), first)
    expect(next.stores.map(({ name }) => name)).toEqual(['root'])
    expect((await changesOf(next, 'root', first)).map(({ offset }) => offset)).toEqual([0, mib])
    await next[Symbol.asyncDispose]()
    await expectNothingLeft(machine)
  })
})

describeWith(['qemu-system-x86_64', 'qemu-img', 'qemu-io'], 'disks with a thread of their own', () => {
  it.each([
    ['virtio-blk', ['-device', 'virtio-blk-pci,drive=root-node,id=root,iothread=io0,bootindex=1']],
    ['virtio-scsi', ['-device', 'virtio-scsi-pci,id=bus,iothread=io0', '-device', 'scsi-hd,drive=root-node,id=root,bus=bus.0,bootindex=1']],
  ] as const)('on %s are refused before anything is touched, for QEMU could crash; others are backed up', async (_, devices) => {
    const folder = temporaryFolder()
    const path = await makeImage(join(folder, 'root.qcow2'), 'qcow2', guestBytes)
    await installGuest(path, 'qcow2')
    const args = ['-object', 'iothread,id=io0', '-blockdev', `driver=file,filename=${path},node-name=root-file`]
    args.push('-blockdev', 'driver=qcow2,file=root-file,node-name=root-node', ...devices)
    args.push(...blockdevDisk('data', await makeImage(join(folder, 'data.raw'), 'raw', mib), 'raw'))
    const machine = await LiveMachine.start(folder, args, { runs: true })
    await untilTurns(machine.qemu, 5)
    await expect(checkpoint(machine.tracker())).rejects.toMatchObject({
      code: 'tracker',
      message: expect.stringContaining("disk 'root' has a thread of its own"),
      hint: expect.stringContaining('disks.exclude'),
    })
    await expectNothingLeft(machine)
    await using doctor = createQemuDoctor(machine.options())
    const findings = await doctor.examine({ owner, previous: undefined, recall, signal })
    const told = { level: 'problem', topic: 'disk', message: expect.stringMatching(/^root: can't be backed up live: .*iothread/) }
    expect(findings).toContainEqual(expect.objectContaining(told))
    const first = await commit(machine.tracker({ exclude: ['root'] }))
    expect(Object.keys(first.changeIds)).toEqual(['data'])
    await untilTurns(machine.qemu, 5)
  })
})

describeWith(['qemu-system-x86_64', 'qemu-storage-daemon', 'qemu-img'], 'a disk that passes QEMU’s block layer', () => {
  it('is told of by doctor and by every backup, and is no store', async () => {
    const folder = temporaryFolder()
    const socket = join(folder, 'vhost')
    const elsewhere = await makeImage(join(folder, 'elsewhere.raw'), 'raw', 4 * mib)
    const root = await makeImage(join(folder, 'root.qcow2'), 'qcow2', 4 * mib)
    const pmem = await makeImage(join(folder, 'pmem.raw'), 'raw', 4 * mib)
    const daemon = spawn('qemu-storage-daemon', [
      ...['--blockdev', `driver=file,node-name=disk,filename=${elsewhere}`],
      ...['--export', `vhost-user-blk,id=disk,node-name=disk,addr.type=unix,addr.path=${socket},writable=on`],
    ])
    onTestFinished(() => void daemon.kill('SIGKILL'))
    await expect.poll(() => existsSync(socket), { timeout: 60_000 }).toBe(true)
    const args = [
      ...['-object', 'memory-backend-memfd,id=mem,size=16M,share=on', '-numa', 'node,memdev=mem', '-m', '16M,slots=2,maxmem=1G'],
      ...['-chardev', `socket,id=vhost,path=${socket}`, '-device', 'vhost-user-blk-pci,chardev=vhost,id=served'],
      ...['-object', `memory-backend-file,id=pmem,share=on,mem-path=${pmem},size=4M`, '-device', 'virtio-pmem-pci,memdev=pmem,id=kept'],
    ]
    const machine = await LiveMachine.start(folder, [...args, '-drive', `file=${root},format=qcow2,if=virtio,id=root`])
    await using taken = await checkpoint(machine.tracker())
    expect(taken.stores.map(({ name }) => name)).toEqual(['root'])
    const served = expect.stringMatching(/'served' \(vhost-user-blk-pci\) is not backed up: .*another process/)
    const kept = expect.stringMatching(/'kept' \(virtio-pmem-pci\) is not backed up: .*as to memory/)
    expect(taken.warnings).toEqual(expect.arrayContaining([served, kept]))
    await taken[Symbol.asyncDispose]()
    await using doctor = createQemuDoctor(machine.options())
    const findings = await doctor.examine({ owner, previous: undefined, recall, signal })
    expect(findings).toContainEqual(expect.objectContaining({ level: 'problem', topic: 'disk', message: served }))
    // Where it is the only one, there is nothing to back up, and that says why.
    const excluding = machine.tracker({ exclude: ['root'] })
    await expect(checkpoint(excluding)).rejects.toMatchObject({ code: 'tracker', hint: expect.stringContaining("'served'") })
  })
})
