import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { describeWith } from '../../layers.js'
import { makeImage } from '../../qemu/images.js'
import { temporaryFolder } from '../../temporary.js'
import { changesOf, checkpoint, commit, contentOf, signal, storeOf } from './checkpoints.js'
import { expectNothingLeft } from './left-over.js'
import { LiveMachine } from './live-machine.js'

const mib = 1024 * 1024

function io(path: string, ...commands: readonly string[]): void {
  execFileSync('qemu-io', [...commands.flatMap((command) => ['-c', command]), path], { stdio: 'ignore' })
}

/** Started as people do by hand: -drive without IDs, several buses, what is no disk of the machine's own among them. */
async function handStarted(): Promise<LiveMachine> {
  const folder = temporaryFolder()
  const base = await makeImage(join(folder, 'base.qcow2'), 'qcow2', 4 * mib)
  io(base, 'write -P 1 0 1M', 'write -P 2 3M 1M')
  const root = await makeImage(join(folder, 'root.qcow2'), 'qcow2', 8 * mib, { path: base, format: 'qcow2' })
  io(root, 'write -P 3 512k 64k', 'write -z 3M 512k')
  const paths: Record<string, string> = {}
  for (const name of ['scsi', 'ide', 'cd', 'fixed']) paths[name] = await makeImage(join(folder, `${name}.raw`), 'raw', 2 * mib)
  return await LiveMachine.start(folder, [
    ...['-drive', `file=${root},if=virtio`],
    ...['-device', 'virtio-scsi-pci,id=scsi0', '-drive', `file=${paths['scsi']},format=raw,if=none,id=Drive_1`],
    ...['-device', 'scsi-hd,drive=Drive_1,bus=scsi0.0', '-device', 'scsi-cd,id=empty,bus=scsi0.0'],
    ...['-drive', `file=${paths['ide']},format=raw,if=ide`, '-drive', `file=${paths['cd']},format=raw,if=ide,media=cdrom`],
    ...['-drive', `file=${paths['fixed']},format=raw,if=none,id=ro,readonly=on`, '-device', 'virtio-blk-pci,drive=ro'],
  ])
}

describeWith(['qemu-system-x86_64', 'qemu-img', 'qemu-io'], 'the disks of a machine', () => {
  it('are found however it was started, without what is no disk that it writes', async () => {
    const machine = await handStarted()
    const stores = await machine.tracker().stores()
    expect(stores.map(({ name }) => name)).toEqual(['virtio0', 'drive_1', 'ide0-hd0'])
    const tracker = machine.tracker({ exclude: ['drive_1'] })
    expect((await tracker.stores()).map(({ name }) => name)).toEqual(['virtio0', 'ide0-hd0'])
    await expect(machine.tracker({ exclude: ['sda'] }).stores()).rejects.toMatchObject({
      code: 'config',
      hint: expect.stringContaining('virtio0'),
    })
  })

  it('are read through their backing files, and nothing is read that is zeroes in both', async () => {
    const machine = await handStarted()
    const tracker = machine.tracker()
    const devices = (await machine.qemu.monitor.execute('query-block')) as { device: string; qdev: string }[]
    const device = (name: string): string => devices.find((found) => found.device === name)?.qdev ?? ''
    const first = await commit(tracker)
    await machine.qemu.write(device('virtio0'), Buffer.alloc(512, 9), 3 * mib + 600 * 1024)
    await machine.qemu.zero(device('virtio0'), 0, 65_536)
    await machine.qemu.write(device('Drive_1'), Buffer.alloc(4096, 8), mib)

    await using taken = await checkpoint(tracker, first)
    // Behind the checkpoint's back, in each kind of cluster.
    for (const offset of [0, mib / 2, 2 * mib, 3 * mib, 7 * mib]) await machine.qemu.write(device('virtio0'), Buffer.alloc(512, 99), offset)
    const root = storeOf(taken, 'virtio0')
    const expected = Buffer.alloc(8 * mib)
    expected.fill(1, 65_536, mib).fill(3, mib / 2, mib / 2 + 65_536).fill(2, 3 * mib + mib / 2, 4 * mib)
    expected.fill(9, 3 * mib + 600 * 1024, 3 * mib + 600 * 1024 + 512)
    expect((await contentOf(root)).equals(expected)).toBe(true)
    const zeroes: number[][] = []
    for await (const page of root.allocatedExtents({ offset: 0, length: 8 * mib }, { signal })) {
      for (const { kind, offset, length } of page) if (kind === 'zero') zeroes.push([offset, length])
    }
    const isZero = (from: number, length: number): boolean => expected.subarray(from, from + length).every((byte) => byte === 0)
    for (const [offset = 0, length = 0] of zeroes) expect(isZero(offset, length)).toBe(true)
    expect(zeroes.reduce((sum, [, length = 0]) => sum + length, 0)).toBeGreaterThan(6 * mib)
    const ends = (await changesOf(taken, 'virtio0', first)).map(({ offset, length }) => [offset, offset + length])
    expect(ends).toEqual([[0, 65_536], [3 * mib + 600 * 1024, 3 * mib + 608 * 1024]])
    expect(await changesOf(taken, 'drive_1', first)).toEqual([{ offset: mib, length: 8192 }])
    expect(await changesOf(taken, 'ide0-hd0', first)).toEqual([])
    await taken[Symbol.asyncDispose]()
    await expectNothingLeft(machine)
  })

  it('of many are one instant too', async () => {
    const names = Array.from({ length: 12 }, (_, n) => `disk${n}`)
    const machine = await LiveMachine.withDisks(names.map((name) => ({ name, format: 'qcow2', sizeBytes: 2 * mib })))
    const first = await commit(machine.tracker())
    await using taken = await checkpoint(machine.tracker(), first)
    expect(taken.stores.map(({ name }) => name)).toEqual(names)
    for (const name of names) expect(await changesOf(taken, name, first)).toEqual([])
    await taken[Symbol.asyncDispose]()
    await expectNothingLeft(machine)
  })

  it('given by options in JSON are backed up like others; where none is a file, it is told what to configure', async () => {
    const folder = temporaryFolder()
    const qcow2 = await makeImage(join(folder, 'a.qcow2'), 'qcow2', 4 * mib)
    const raw = await makeImage(join(folder, 'b.raw'), 'raw', 8 * mib)
    const json = JSON.stringify({ driver: 'qcow2', file: { driver: 'file', filename: qcow2 } }).replaceAll(',', ',,')
    const part = `driver=raw,node-name=part,offset=1048576,size=4194304,file.driver=file,file.filename=${raw}`
    for (const args of [
      ['-drive', `file=json:${json},if=virtio`],
      ['-blockdev', part, '-device', 'virtio-blk-pci,drive=part,id=part'],
      ['-blockdev', `driver=blkdebug,node-name=d,image.driver=file,image.filename=${raw}`, '-device', 'virtio-blk-pci,drive=d'],
    ]) {
      const machine = await LiveMachine.start(folder, args)
      const first = await commit(machine.tracker())
      const [name = ''] = Object.keys(first.changeIds)
      await using taken = await checkpoint(machine.tracker(), first)
      expect(await changesOf(taken, name, first)).toEqual([])
      await taken[Symbol.asyncDispose]()
      await expectNothingLeft(machine)
      await machine.qemu.quit()
    }
    // QEMU removes the name of what it writes to at once.
    const machine = await LiveMachine.start(folder, ['-drive', `file=${raw},format=raw,if=virtio,id=vda,snapshot=on`])
    await expect(checkpoint(machine.tracker())).rejects.toMatchObject({
      code: 'tracker',
      message: expect.stringMatching(/vda is \/var\/tmp\/|vda is \/tmp\//),
      hint: expect.stringContaining('fleecing: { folder: … }'),
    })
    const configured = machine.tracker({ fleecing: { folder: join(folder, 'area'), limitBytes: undefined } })
    expect(await commit(configured)).toMatchObject({ changeIds: { vda: expect.any(String) } })
  })
})
