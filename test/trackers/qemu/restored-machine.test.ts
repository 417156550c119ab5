import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { execa } from 'execa'
import { expect, it } from 'vitest'
import { openScene } from '../../bad-days/scene.js'
import { describeWith } from '../../layers.js'
import { guestBytes, guestTurn, installGuest, untilTurns } from '../../qemu/guest.js'
import { makeImage } from '../../qemu/images.js'
import { LiveMachine } from './live-machine.js'
import { startRestored } from './machine/restored.js'

async function turnOf(image: string, disk: 0 | 1): Promise<number> {
  await execa('qemu-img', ['convert', '-O', 'raw', image, `${image}.as-raw`])
  return await guestTurn(`${image}.as-raw`, disk)
}

describeWith(['qemu-system-x86_64', 'qemu-img', 'qemu-io'], 'a machine that is restored after it was killed', () => {
  it('boots from a point in the middle, with the disks of that instant in the formats they had', async () => {
    const scene = openScene('', { within: true })
    const root = await makeImage(scene.path('root.qcow2'), 'qcow2', guestBytes)
    const data = await makeImage(scene.path('data.raw'), 'raw', guestBytes)
    await installGuest(root, 'qcow2')
    const args = [
      ...['-drive', `file=${root},format=qcow2,if=virtio`, '-drive', `file=${data},format=raw,if=virtio`],
      ...['-object', 'secret,id=s0,data=TOPSECRET', '-device', 'virtio-rng-pci'],
    ]
    const machine = await LiveMachine.start(scene.folder, args, { runs: true })
    scene.configure(`
repository: ./repository
machines:
  web01: { tracker: qemu, qmp: ${machine.qmp} }
`)
    await scene.ok(['init'])
    let told = ''
    for (const _ of [1, 2, 3]) {
      await untilTurns(machine.qemu, 5)
      const { stdout, stderr } = await scene.ok(['backup', 'web01'])
      told += stdout + stderr
    }
    await machine.qemu.kill()
    const restored = scene.path('restored')
    const { stdout, stderr } = await scene.ok(['restore', 'web01', '--at', '2', '--to', restored])
    expect(stdout).toContain(`start it: ${join(restored, 'start.sh')}`)
    for (const text of [told, stdout, stderr]) expect(text).not.toContain('TOPSECRET')
    expect(statSync(join(restored, 'start.sh')).mode & 0o777).toBe(0o700)
    expect(statSync(join(restored, 'config/qemu/machine.json')).mode & 0o777).toBe(0o600)
    const [first, second] = ['virtio0.qcow2', 'virtio1.raw'].map((name) => join(restored, name))
    if (first === undefined || second === undefined) throw new Error('two disks')
    const instant = await turnOf(first, 0)
    expect([0, 1]).toContain(instant - (await turnOf(second, 1)))
    expect(await turnOf(root, 0)).toBeGreaterThan(instant)

    const started = await startRestored(restored, 'machine.qmp')
    const counter = async () => {
      const answer = await started.qmp.execute('human-monitor-command', { 'command-line': 'xp /1wx 0x7e10' })
      return Number.parseInt(/0x[0-9a-f]+$/.exec(String(answer).trim())?.[0] ?? '0', 16)
    }
    const counted = async (least: number) => {
      for (;;) {
        const seen = await counter()
        if (seen >= least) return seen
        await new Promise((resolve) => setTimeout(resolve, 5))
      }
    }
    // It begins with the turn of the instant, which may not have come to its end, and not at one.
    expect(await counted(1)).toBeGreaterThanOrEqual(instant - 1)
    await counted(instant + 3)
    expect(readFileSync(join(restored, 'run/machine.serial'), 'latin1')).toContain('refpoint test guest')
    await started.quit()
    expect(await turnOf(first, 0)).toBeGreaterThanOrEqual(instant + 3)
  })
})
