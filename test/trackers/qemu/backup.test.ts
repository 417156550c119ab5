import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { openScene, type Scene } from '../../bad-days/scene.js'
import { describeWith } from '../../layers.js'
import { guestBytes, guestTurn, installGuest, untilTurns } from '../../qemu/guest.js'
import { blockdevDisk, makeImage, virtioDisk } from '../../qemu/images.js'
import { expectNothingLeft } from './left-over.js'
import { LiveMachine } from './live-machine.js'

const mib = 1024 * 1024

interface StoredDisk {
  readonly name: string
  readonly mode: string
  readonly reason: string
}

/** A scene whose machine `web01` is a running guest of two disks, writing all the while. */
async function guestScene(): Promise<{ scene: Scene; machine: LiveMachine }> {
  const scene = openScene('', { within: true })
  const root = await makeImage(scene.path('root.qcow2'), 'qcow2', guestBytes)
  const data = await makeImage(scene.path('data.raw'), 'raw', guestBytes)
  await installGuest(root, 'qcow2')
  const args = [...blockdevDisk('root', root, 'qcow2'), ...blockdevDisk('data', data, 'raw')]
  const machine = await LiveMachine.start(scene.folder, args, { runs: true })
  scene.configure(`
repository: ./repository
machines:
  web01: { tracker: qemu, qmp: ${machine.qmp} }
`)
  await scene.ok(['init'])
  return { scene, machine }
}

async function takePoint(scene: Scene): Promise<readonly StoredDisk[]> {
  const { stdout } = await scene.ok(['backup', 'web01', '--json'])
  const { points } = JSON.parse(stdout) as { readonly points: readonly { readonly stores: readonly StoredDisk[] }[] }
  return points[0]?.stores ?? []
}

/** The turn of each disk in a restored point, each checked to be one instant of itself. */
async function turnsOf(scene: Scene, point: number): Promise<number[]> {
  const folder = scene.path(`restored-${point}`)
  await scene.ok(['restore', 'web01', '--at', String(point), '--to', folder, '--format', 'raw'])
  return await Promise.all([guestTurn(join(folder, 'root.raw'), 0), guestTurn(join(folder, 'data.raw'), 1)])
}

describeWith(['qemu-system-x86_64', 'qemu-img', 'qemu-io'], 'refpoint backup of a running guest', () => {
  it('takes points that are one instant of both disks, and leaves nothing behind', async () => {
    const { scene, machine } = await guestScene()
    await untilTurns(machine.qemu, 20)
    let before = 0
    for (const number of [1, 2, 3]) {
      const stores = await takePoint(scene)
      expect(stores.map(({ mode }) => mode === 'full')).toEqual([number === 1, number === 1])
      for (const { reason } of stores) if (number > 1) expect(reason).toBe(`changes since point #${number - 1}`)
      await expectNothingLeft(machine)
      await untilTurns(machine.qemu, 5)
      const [root = 0, data = 0] = await turnsOf(scene, number)
      expect([0, 1]).toContain(root - data)
      expect(root).toBeGreaterThan(before)
      before = root
    }
    await scene.ok(['verify'])
  })

  it('finds out that a disk shrank and grew back, which no bitmap tells', async () => {
    const scene = openScene('', { within: true })
    const path = await makeImage(scene.path('root.qcow2'), 'qcow2', 64 * mib)
    const machine = await LiveMachine.start(scene.folder, blockdevDisk('root', path, 'qcow2'))
    // So small a budget comes nowhere near what is lost.
    scene.configure(`
repository: ./repository
machines:
  web01: { tracker: qemu, qmp: ${machine.qmp}, audit: { bytes: 1 } }
`)
    await scene.ok(['init'])
    const device = virtioDisk('root')
    for (const place of [2, 10, 30]) await machine.qemu.write(device, Buffer.alloc(mib, place), place * mib)
    await takePoint(scene)
    for (const size of [20 * mib, 64 * mib]) {
      await machine.qemu.monitor.execute('block_resize', { 'node-name': 'root-node', size })
    }
    await machine.qemu.write(device, Buffer.alloc(512, 9), 50 * mib)
    const told = await scene.run(['backup', 'web01', '--json'])
    expect(told.status, told.stderr).toBe(14)
    const folder = scene.path('restored')
    await scene.ok(['restore', 'web01', '--at', 'latest', '--to', folder, '--format', 'raw'])
    const restored = await readFile(join(folder, 'root.raw'))
    const expected = Buffer.alloc(64 * mib)
    expected.fill(2, 2 * mib, 3 * mib).fill(10, 10 * mib, 11 * mib).fill(9, 50 * mib, 50 * mib + 512)
    expect(restored.equals(expected)).toBe(true)
  })
})
