import { join } from 'node:path'
import { execa } from 'execa'
import { expect, it } from 'vitest'
import { openScene } from '../../bad-days/scene.js'
import { describeWith } from '../../layers.js'
import { linuxGuest, makeExt4, saidNumber, untilCounted } from '../../qemu/linux-guest.js'
import { LiveMachine } from './live-machine.js'
import { startRestored } from './machine/restored.js'

const superuser = ['/usr/sbin', '/sbin']
const env = { PATH: [process.env['PATH'], ...superuser].join(':') }

/** What e2fsck says of an ext4 image without changing it, and whether its journal would have to be replayed. */
async function checked(image: string): Promise<{ status: number | undefined; replay: boolean; output: string }> {
  const { exitCode, stdout, stderr } = await execa('e2fsck', ['-fn', image], { env, reject: false })
  const { stdout: header } = await execa('dumpe2fs', ['-h', image], { env })
  return { status: exitCode, replay: header.includes('needs_recovery'), output: stdout + stderr }
}

async function counterIn(image: string): Promise<number> {
  return Number((await execa('debugfs', ['-R', 'cat /counter', image], { env })).stdout)
}

describeWith(['qemu-system-x86_64', 'qemu-img', 'mkfs.ext4', 'linux-guest'], 'a guest with an agent and a file system', () => {
  it('is restored with a file system that needs no repair, and boots on it', { timeout: 300_000 }, async () => {
    const scene = openScene('', { within: true })
    const agent = scene.path('guest.qga')
    const disk = await makeExt4(scene.path('root.qcow2'), 96 * 1024 ** 2)
    const machine = await LiveMachine.start(scene.folder, linuxGuest(disk, agent), { runs: true })
    // The same machine twice: once as it should be, and once as it is without an agent.
    scene.configure(`
repository: ./repository
machines:
  web01: { tracker: qemu, qmp: ${machine.qmp}, agent: ${agent} }
  bare: { tracker: qemu, qmp: ${machine.qmp} }
`)
    await scene.ok(['init'])
    await saidNumber(machine.qemu.serialPath, /READY/)
    expect((await scene.ok(['doctor', 'web01'])).stdout).toContain(`the guest agent answers at ${agent}`)
    for (const point of [1, 2, 3]) {
      await untilCounted(machine.qemu, 20)
      const { stdout } = await scene.ok(['backup', 'web01'])
      expect(stdout).toContain(`web01: point #${point}, ${point === 1 ? 'full' : 'incremental'}, filesystem: `)
      if (point > 1) expect(stdout).toMatch(/root (tracked|refined) \(changes since point #\d\)/)
    }
    expect((await scene.ok(['backup', 'bare'])).stdout).toContain('bare: point #1, full, crash: ')
    // It thawed: it writes on.
    await untilCounted(machine.qemu, 20)
    await machine.qemu.kill()

    let before = 0
    for (const point of ['1', '2', '3']) {
      await scene.ok(['restore', 'web01', '--at', point, '--to', scene.path(point), '--format', 'raw'])
      const image = scene.path(point, 'root.raw')
      const { output, ...state } = await checked(image)
      expect(state, output).toEqual({ status: 0, replay: false })
      const counter = await counterIn(image)
      expect(counter).toBeGreaterThan(before)
      before = counter
    }
    // What the agent is for: without it the journal has to be replayed.
    await scene.ok(['restore', 'bare', '--at', 'latest', '--to', scene.path('bare'), '--format', 'raw'])
    expect((await checked(scene.path('bare', 'root.raw'))).replay).toBe(true)

    const counter = await counterIn(scene.path('2', 'root.raw'))
    const started = await startRestored(scene.path('2'), 'machine.qmp')
    const serial = join(scene.path('2'), 'run/machine.serial')
    expect(await saidNumber(serial, /FOUND (\d+)\r?\n/)).toBe(counter)
    await saidNumber(serial, /READY/)
    await started.quit()
  })
})
