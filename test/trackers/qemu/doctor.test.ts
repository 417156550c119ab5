import { randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { expect, it, onTestFinished } from 'vitest'
import { openScene, type Scene } from '../../bad-days/scene.js'
import { describeWith } from '../../layers.js'
import { makeImage } from '../../qemu/images.js'
import { expectNothingLeft } from './left-over.js'
import { LiveMachine } from './live-machine.js'

interface Finding {
  readonly level: string
  readonly topic: string
  readonly store: string | null
  readonly message: string
}

/** A machine of a qcow2 disk, a raw one, one that is excluded, and a CD. */
async function sceneOf(more = ''): Promise<{ scene: Scene; machine: LiveMachine }> {
  const scene = openScene('', { within: true })
  const image = async (name: string, format: 'qcow2' | 'raw') =>
    await makeImage(scene.path(`${name}.${format}`), format, 32 * 1024 ** 2)
  const args = [
    ...['-drive', `file=${await image('root', 'qcow2')},format=qcow2,if=virtio,id=root`],
    ...['-drive', `file=${await image('data', 'raw')},format=raw,if=virtio,id=data`],
    ...['-drive', `file=${await image('scratch', 'raw')},format=raw,if=virtio,id=scratch`],
    ...['-drive', `file=${await image('disc', 'raw')},format=raw,media=cdrom,if=ide,id=cd`],
  ]
  const machine = await LiveMachine.start(scene.folder, args)
  scene.configure(`
repository: ./repository
defaults: { compression: { level: 19, workers: 1 } }
machines:
  web01: { tracker: qemu, qmp: ${machine.qmp}, disks: { exclude: [scratch] }${more} }
`)
  return { scene, machine }
}

async function findings(scene: Scene, args: readonly string[] = []): Promise<readonly Finding[]> {
  const { stdout } = await scene.ok(['doctor', ...args, '--json'])
  return (JSON.parse(stdout) as { readonly findings: readonly Finding[] }).findings
}

const about = (found: readonly Finding[], topic: string) =>
  found.filter((finding) => finding.topic === topic).map(({ level, message }) => `${level}: ${message}`)

/** Has a backup begin, and resolves when its filters are in QEMU. */
async function beginBackup(scene: Scene, machine: LiveMachine) {
  const running = scene.start(['backup', 'web01', '--full'])
  onTestFinished(() => void running.process.kill('SIGKILL'))
  while (!JSON.stringify(await machine.qemu.monitor.execute('query-block-exports')).includes('refpoint-')) {
    if (running.process.exitCode !== null) throw new Error(`the backup ended: ${(await running.told).stderr}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  return running
}

describeWith(['qemu-system-x86_64', 'qemu-img'], 'refpoint doctor of a running machine', () => {
  it('says what there is, before the first backup and after it', async () => {
    const { scene, machine } = await sceneOf()
    const before = await scene.run(['doctor', 'web01'])
    expect(before.status).toBe(14)
    expect(before.stdout).toMatch(/PROBLEM +there is no repository at .*\n +Make it: refpoint init/)
    await scene.ok(['init'])
    const first = await findings(scene)
    expect(about(first, 'version')).toEqual([expect.stringMatching(/^good: QEMU \d+\.\d+\.\d+ runs it/)])
    expect(about(first, 'disk')).toEqual([
      expect.stringMatching(/^good: root: qcow2, 32 MiB, .*keeps its dirty bitmap over shutdowns/),
      expect.stringMatching(/^note: data: raw, 32 MiB, .*each power-off costs one comparison/),
      expect.stringMatching(/^note: scratch \(.*scratch\.raw\), a disk, is not backed up: it is excluded/),
      expect.stringMatching(
        /^note: cd \(.*disc\.raw\), a medium that can be taken out, is not backed up: it is only read/,
      ),
    ])
    expect(about(first, 'agent')).toEqual([expect.stringContaining('note: no guest agent is configured')])
    expect(about(first, 'room')).toEqual([expect.stringMatching(/^good: up to \d+ MiB in /)])
    expect(about(first, 'start')).toEqual(['good: a restore makes a start.sh that starts the machine'])
    expect(about(first, 'repository')).toEqual([expect.stringContaining('note: it was never backed up')])

    await scene.ok(['backup', 'web01'])
    const tracked = await findings(scene, ['web01'])
    expect(about(tracked, 'tracking')).toEqual([
      'good: root: tracked since point #1',
      'good: data: tracked since point #1',
    ])
    expect(about(tracked, 'leftovers')).toEqual(['good: killed runs left nothing'])
    await expectNothingLeft(machine)

    await machine.qemu.quit()
    await machine.restart()
    expect(about(await findings(scene), 'tracking')).toEqual([
      'good: root: tracked since point #1',
      expect.stringMatching(/^note: data: compared with point #1 next time: QEMU keeps no dirty bitmap for raw/),
    ])
    await machine.qemu.quit()
    const gone = await scene.run(['doctor'])
    expect(gone.status).toBe(14)
    expect(gone.stderr).toContain(machine.qmp)
  })

  it('finds what a killed run left, and removes it only when told to, and never under a run that goes on', async () => {
    const { scene, machine } = await sceneOf()
    writeFileSync(scene.path('noise'), randomBytes(24 * 1024 ** 2))
    await machine.qemu.io('/machine/peripheral-anon/device[0]/virtio-backend', `write -s ${scene.path('noise')} 0 24M`)
    await scene.ok(['init'])
    await scene.ok(['backup', 'web01'])

    const running = await beginBackup(scene, machine)
    running.process.kill('SIGSTOP')
    for (const args of [[], ['--fix']]) expect((await scene.run(['doctor', ...args])).status).toBe(11)
    running.process.kill('SIGKILL')
    await running.told

    const found = await scene.run(['doctor'])
    expect(found.status).toBe(14)
    expect(found.stdout).toMatch(
      /PROBLEM +killed runs left: export refpoint-.* node refpoint-.* file \.fleecing-refpoint-/,
    )
    expect((await scene.run(['doctor'])).stdout).toContain('killed runs left: export')
    const fixed = await scene.ok(['doctor', '--fix'])
    expect(fixed.stdout).toMatch(/removed +export refpoint-/)
    expect(fixed.stdout).toMatch(/removed +file \.fleecing-refpoint-/)
    expect(fixed.stdout).toContain('killed runs left nothing')
    await expectNothingLeft(machine)
    // What the last point needs was no leftover.
    expect(about(await findings(scene), 'tracking')).toEqual([
      'good: root: tracked since point #1',
      'good: data: tracked since point #1',
    ])
  })

  it('looks at the images of a machine that is shut down, where these are configured', async () => {
    const { scene, machine } = await sceneOf(', images: auto')
    await scene.ok(['init'])
    await scene.ok(['backup', 'web01'])
    await machine.qemu.quit()
    const found = await findings(scene)
    expect(about(found, 'version')).toEqual(['note: the machine does not run: its images are looked at'])
    expect(about(found, 'tracking')).toEqual([
      'good: root: tracked since point #1',
      'note: data: nothing tracks it: all of it is read each time, and compared',
    ])
    expect((await scene.ok(['doctor', '--fix'])).stdout).toContain('the last of 1 points is #1')
  })

  it('tells an agent that does not answer, and a folder without room', async () => {
    const { scene } = await sceneOf(', agent: ./nowhere.qga, fleecing: { folder: ./root.qcow2/nowhere }')
    await scene.ok(['init'])
    const told = await scene.run(['doctor'])
    expect(told.status).toBe(14)
    expect(told.stdout).toMatch(/PROBLEM +guest agent at .*nowhere\.qga/)
    expect(told.stdout).toMatch(/PROBLEM +.*root\.qcow2\/nowhere/)
  })
})
