import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { execa } from 'execa'
import { expect, it } from 'vitest'
import { expectSame, expectTold, expectVerifies, openScene, restoreWithoutRefpoint, type Scene } from '../../bad-days/scene.js'
import { describeWith } from '../../layers.js'
import { blockdevDisk, makeImage, virtioDisk } from '../../qemu/images.js'
import { storedBitmaps } from '../qcow2/machine.js'
import { LiveMachine } from './live-machine.js'

const mib = 2 ** 20
const formats = { root: 'qcow2', data: 'qcow2', swap: 'raw' } as const
type Disk = keyof typeof formats
const disks = Object.keys(formats) as readonly Disk[]

interface Run {
  readonly point: number
  readonly consistency: string
  readonly stores: readonly { readonly name: string; readonly mode: string; readonly reason: string }[]
}

/** A machine with two qcow2 disks, one of them over a base image, and a raw one, which is switched off and on. */
class PowerCycles {
  readonly scene: Scene
  readonly machine: LiveMachine
  readonly #expected = new Map<number, Record<string, Buffer>>()
  #writes = 0

  private constructor(scene: Scene, machine: LiveMachine) {
    this.scene = scene
    this.machine = machine
  }

  static async start(images: string): Promise<PowerCycles> {
    const scene = openScene('', { within: true })
    const base = await makeImage(scene.path('base.qcow2'), 'qcow2', 5 * mib)
    await execa('qemu-io', ['-f', 'qcow2', '-c', 'write -P 99 1M 1M', base])
    const paths = Object.fromEntries(disks.map((disk) => [disk, scene.path(`${disk}.img`)]))
    const args: string[] = []
    for (const disk of disks) {
      const backing = disk === 'root' ? ({ path: base, format: 'qcow2' } as const) : undefined
      const path = await makeImage(paths[disk] ?? '', formats[disk], 6 * mib, backing)
      args.push(...blockdevDisk(disk, path, formats[disk]))
    }
    const machine = await LiveMachine.start(scene.folder, [...args, '-no-reboot'])
    scene.configure(`
repository: ./repository
machines:
  web01:
    tracker: qemu
    qmp: ${machine.qmp}
    ${images}
`)
    await scene.ok(['init'])
    return new PowerCycles(scene, machine)
  }

  /** Something on every disk, by the guest, if it runs. */
  async write(): Promise<void> {
    this.#writes += 1
    const bytes = Buffer.alloc(9000, this.#writes)
    const offset = this.#writes * 200_192
    for (const disk of disks) await this.machine.qemu.write(virtioDisk(disk), bytes, offset)
    await this.machine.qemu.zero(virtioDisk('root'), mib + this.#writes * 4096, 4096)
    for (const disk of disks) await this.machine.qemu.io(virtioDisk(disk), 'flush')
  }

  async back(): Promise<Run> {
    const { stdout } = await this.scene.ok(['backup', 'web01', '--json'])
    const { points } = JSON.parse(stdout) as { readonly points: readonly Run[] }
    const [run] = points
    if (run === undefined) throw new Error(`no point: ${stdout}`)
    this.#expected.set(run.point, await this.contents())
    return run
  }

  /** By qemu-img, of a machine that does nothing just now. */
  async contents(): Promise<Record<string, Buffer>> {
    const found: Record<string, Buffer> = {}
    for (const disk of disks) {
      const raw = this.scene.path('converted')
      await execa('qemu-img', ['convert', '-U', '-f', formats[disk], '-O', 'raw', this.scene.path(`${disk}.img`), raw])
      found[disk] = readFileSync(raw)
    }
    return found
  }

  /** Every point, byte for byte; the newest, which needs most of the others, also without refpoint. */
  async expectAllPoints(): Promise<void> {
    for (const [point, contents] of this.#expected) {
      const folder = this.scene.path(`restored-${point}`)
      await this.scene.ok(['restore', 'web01', '--at', String(point), '--to', folder])
      for (const disk of disks) {
        const expected = contents[disk] ?? Buffer.alloc(0)
        const raw = this.scene.path('converted')
        // In the format that it had, where the point knows it.
        const format = existsSync(join(folder, 'config')) ? formats[disk] : 'raw'
        const restored = join(folder, `${disk}.${format}`)
        await execa('qemu-img', ['convert', '-f', format, '-O', 'raw', restored, raw])
        expectSame(readFileSync(raw), expected, `${disk} of #${point}`)
      }
    }
    const newest = Math.max(...this.#expected.keys())
    for (const disk of disks) {
      const expected = this.#expected.get(newest)?.[disk] ?? Buffer.alloc(0)
      expectSame(await restoreWithoutRefpoint(this.scene.repository, disk, newest), expected, `${disk}, by hand`)
    }
    await expectVerifies(this.scene)
  }
}

/** How a run found what to store, by disk. */
function modes({ stores }: Run): Record<string, string> {
  return Object.fromEntries(stores.map(({ name, mode, reason }) => [name, `${mode === 'refined' ? 'tracked' : mode}: ${reason}`]))
}

const tracked = (point: number): unknown => expect.stringContaining(`tracked: changes since point #${point}`)
const compared = (why: string): unknown => expect.stringMatching(new RegExp(`^compared: .*${why}`))

describeWith(['qemu-system-x86_64', 'qemu-storage-daemon', 'qemu-img', 'qemu-io', 'python3', 'zstd'], 'a machine that is switched off and on', () => {
  it('has one chain through all of it, whichever way it ends', async () => {
    const cycles = await PowerCycles.start('images: auto')
    const { machine } = cycles
    await cycles.write()
    expect(await cycles.back()).toMatchObject({ point: 1, consistency: 'crash' })
    await cycles.write()
    expect(modes(await cycles.back())).toEqual({ root: tracked(1), data: tracked(1), swap: tracked(1) })

    // Each way to end that lets QEMU close its images: bitmaps in qcow2 go on, those of raw disks are lost, and told.
    const ends: readonly (() => Promise<void>)[] = [
      () => machine.qemu.quit(),
      () => machine.qemu.end('SIGTERM'),
      async () => {
        // As a guest that switches itself off (-no-reboot).
        await machine.qemu.monitor.execute('system_reset')
        await machine.qemu.ended
      },
    ]
    let newest = 2
    for (const end of ends) {
      await cycles.write()
      await end()
      const off = await cycles.back()
      newest += 1
      expect(off).toMatchObject({ point: newest, consistency: 'offline' })
      expect(modes(off)).toEqual({ root: tracked(newest - 1), data: tracked(newest - 1), swap: compared('') })
      await machine.restart()
      await cycles.write()
      const on = await cycles.back()
      newest += 1
      expect(on).toMatchObject({ point: newest, consistency: 'crash' })
      expect(modes(on)).toEqual({ root: tracked(newest - 1), data: tracked(newest - 1), swap: compared('nothing tracked') })
    }
    await cycles.write()
    expect(modes(await cycles.back())).toEqual({ root: tracked(newest), data: tracked(newest), swap: tracked(newest) })
    newest += 1

    // Off and on again without a point of the machine that is off.
    await cycles.write()
    await machine.qemu.quit()
    await machine.restart()
    await cycles.write()
    expect(modes(await cycles.back())).toEqual({
      root: tracked(newest),
      data: tracked(newest),
      swap: compared('QEMU keeps no dirty bitmap for raw'),
    })
    newest += 1

    // A power cut: what was not saved can't vouch.
    await cycles.write()
    await machine.qemu.kill()
    const cut = await cycles.back()
    newest += 1
    expect(cut).toMatchObject({ point: newest, consistency: 'offline' })
    expect(modes(cut)).toEqual({ root: compared('tracking lost'), data: compared('tracking lost'), swap: compared('') })
    // Nothing happened since.
    expect(modes(await cycles.back())).toMatchObject({ root: tracked(newest), data: tracked(newest) })
    newest += 1
    for (const disk of ['root', 'data']) expect(await storedBitmaps(cycles.scene.path(`${disk}.img`))).toHaveLength(1)
    await machine.restart()
    await cycles.write()
    expect(modes(await cycles.back())).toMatchObject({ root: tracked(newest), data: tracked(newest) })
    await cycles.expectAllPoints()
  }, 300_000)

  it('is found by the images that the configuration names, and refused where nothing names them', async () => {
    const cycles = await PowerCycles.start('images: auto')
    const { machine, scene } = cycles
    await machine.qemu.quit()
    expectTold(await scene.run(['backup']), 14, /'web01' does not run/, /no point knows its disks/, /images: \{/)
    const configuration = readFileSync(scene.path('refpoint.yaml'), 'utf8')
    scene.configure(
      configuration.replace(
        'images: auto',
        `images:
      root: { path: root.img, backing: { path: base.qcow2, format: qcow2 } }
      data: data.img
      swap: { path: swap.img, format: raw }`,
      ),
    )
    await cycles.back()
    await machine.restart()
    await cycles.write()
    expect(modes(await cycles.back())).toEqual({ root: tracked(1), data: tracked(1), swap: compared('nothing tracked') })
    await cycles.expectAllPoints()
  }, 120_000)

  it('is not backed up as shut down while it runs, nor below an overlay that nobody told of', async () => {
    const cycles = await PowerCycles.start('images: auto')
    const { machine, scene } = cycles
    await cycles.back()
    const configuration = readFileSync(scene.path('refpoint.yaml'), 'utf8')
    scene.configure(configuration.replace(machine.qmp, scene.path('elsewhere.qmp')))
    expectTold(await scene.run(['backup']), 11, /root\.img is in use/, /elsewhere\.qmp/)
    scene.configure(configuration)
    await machine.qemu.quit()
    for (const snapshot of ['root.snapshot', 'snapshots/of today/root']) {
      const path = scene.path(snapshot)
      mkdirSync(dirname(path), { recursive: true })
      await makeImage(path, 'qcow2', 6 * mib, { path: scene.path('root.img'), format: 'qcow2' })
      expectTold(await scene.run(['backup']), 14, /root.* lies over .*root\.img/, path)
      rmSync(path)
    }
    expect(await machine.restart()).toBeUndefined()
    await cycles.back()
  }, 120_000)

  it('is compared, and right, when what is below a disk was changed while it was off', async () => {
    const cycles = await PowerCycles.start('images: auto')
    const { machine, scene } = cycles
    await cycles.write()
    await cycles.back()
    await machine.qemu.quit()
    await execa('qemu-io', ['-f', 'qcow2', '-c', 'write -P 98 4M 64k', scene.path('base.qcow2')])
    expect(modes(await cycles.back())).toMatchObject({ root: compared('backing file was written to'), data: tracked(1) })
    expect(modes(await cycles.back())).toMatchObject({ root: tracked(2), data: tracked(2) })
    // Another one, which nothing vouches for until the machine has run on it.
    await execa('cp', [scene.path('base.qcow2'), scene.path('other.qcow2')])
    await execa('qemu-io', ['-f', 'qcow2', '-c', 'write -P 97 3M 64k', scene.path('other.qcow2')])
    await execa('qemu-img', ['rebase', '-u', '-F', 'qcow2', '-b', scene.path('other.qcow2'), scene.path('root.img')])
    expectTold(await scene.run(['backup']), 14, /root\.img has the backing file .*other\.qcow2/, /was expected/)
    await machine.restart()
    expect(modes(await cycles.back())).toMatchObject({ root: compared('replaced since that point'), data: tracked(3) })
    await machine.qemu.quit()
    expect(modes(await cycles.back())).toMatchObject({ root: tracked(4), data: tracked(4) })
    await cycles.expectAllPoints()
  }, 120_000)
})
