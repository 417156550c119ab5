import { execFileSync } from 'node:child_process'
import { chmodSync, renameSync, utimesSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import type { ReferencePoint } from '../../../src/model/reference-point.js'
import { fingerprintChain, UNKNOWN_BELOW } from '../../../src/trackers/bitmaps/backing-chain.js'
import { createQemuDoctor } from '../../../src/trackers/qemu/doctor/qemu-doctor.js'
import { createQcow2Tracker } from '../../../src/trackers/qcow2/qcow2-tracker.js'
import type { Tracker } from '../../../src/trackers/tracker.js'
import { describeWith } from '../../layers.js'
import { blockdevDisk, makeImage, virtioDisk } from '../../qemu/images.js'
import { temporaryFolder } from '../../temporary.js'
import { recall } from '../../recall.js'
import { changesOf, checkpoint, commit, contentOf, owner, signal, storeOf } from './checkpoints.js'
import { expectNothingLeft } from './left-over.js'
import { LiveMachine } from './live-machine.js'

const mib = 1024 * 1024

const io = (path: string, command: string): unknown => execFileSync('qemu-io', ['-c', command, path], { stdio: 'ignore' })
const img = (...args: readonly string[]): unknown => execFileSync('qemu-img', args, { stdio: 'ignore' })

interface Layered {
  readonly machine: LiveMachine
  /** A path in the machine's folder. */
  path(name: string): string
  /** The tracker of the same machine, shut down. */
  readonly offline: Tracker
}

/** root.qcow2 over middle.qcow2 over base.raw, all of them with something of their own. */
async function layered(): Promise<Layered> {
  const folder = temporaryFolder()
  const path = (name: string): string => join(folder, name)
  await makeImage(path('base.raw'), 'raw', 4 * mib)
  execFileSync('qemu-io', ['-f', 'raw', '-c', 'write -P 1 0 64k', path('base.raw')], { stdio: 'ignore' })
  await makeImage(path('middle.qcow2'), 'qcow2', 4 * mib, { path: path('base.raw'), format: 'raw' })
  io(path('middle.qcow2'), 'write -P 2 1M 64k')
  await makeImage(path('root.qcow2'), 'qcow2', 4 * mib, { path: path('middle.qcow2'), format: 'qcow2' })
  io(path('root.qcow2'), 'write -P 3 2M 64k')
  // As golden images are: older than what is based on them.
  for (const name of ['base.raw', 'middle.qcow2']) utimesSync(path(name), 1_700_000_000.5, 1_700_000_000.5)
  const backing = { path: path('middle.qcow2'), format: 'qcow2', backing: { path: path('base.raw'), format: 'raw' } } as const
  const images = { root: { path: path('root.qcow2'), format: 'qcow2', backing } } as const
  return {
    machine: await LiveMachine.start(folder, blockdevDisk('root', path('root.qcow2'), 'qcow2')),
    path,
    offline: createQcow2Tracker({ images, granularityBytes: undefined }),
  }
}

/** What a tracker says that changed since a point; why it can't, where it can't. */
async function told(tracker: Tracker, since: ReferencePoint): Promise<unknown> {
  await using taken = await checkpoint(tracker, since)
  const changes = changesOf(taken, 'root', since)
  return await changes.catch(({ reason }: { readonly reason: string }) => reason)
}

const changed = [{ offset: 3 * mib, length: 8192 }]

describeWith(['qemu-system-x86_64', 'qemu-storage-daemon', 'qemu-img', 'qemu-io'], 'what backs a disk', () => {
  it('and stays as it is, leaves the disk tracked, on and off and on again', async () => {
    const { machine, path, offline } = await layered()
    const write = (): Promise<void> => machine.qemu.write(virtioDisk('root'), Buffer.alloc(512, 9), 3 * mib)
    const first = await commit(machine.tracker())
    await write()
    expect(await told(machine.tracker(), first)).toEqual(changed)
    const second = await commit(machine.tracker(), first)
    await write()
    await machine.qemu.quit()
    // As libvirt does when a machine ends and starts.
    for (const name of ['base.raw', 'middle.qcow2']) chmodSync(path(name), 0o600)
    expect(await told(offline, second)).toEqual(changed)
    const third = await commit(offline, second)
    expect(await told(offline, third)).toEqual([])
    for (const name of ['base.raw', 'middle.qcow2']) chmodSync(path(name), 0o644)
    await machine.restart()
    await write()
    expect(await told(machine.tracker(), third)).toEqual(changed)
    await expectNothingLeft(machine)
  })

  it.each<readonly [string, 'refused' | 'told', (layered: Layered) => void]>([
    ['is another file', 'refused', ({ path }) => {
      img('create', '-f', 'qcow2', '-b', path('base.raw'), '-F', 'raw', path('other.qcow2'))
      img('rebase', '-u', '-F', 'qcow2', '-b', path('other.qcow2'), path('root.qcow2'))
    }],
    ['is nothing any more', 'refused', ({ path }) => void img('rebase', '-u', '-b', '', path('root.qcow2'))],
    ['is taken for another format', 'refused', ({ path }) => void img('rebase', '-u', '-F', 'raw', '-b', path('middle.qcow2'), path('root.qcow2'))],
    ['was written to', 'told', ({ path }) => void io(path('middle.qcow2'), 'write -P 7 1M 64k')],
    ['was written to two layers down', 'told', ({ path }) => {
      execFileSync('qemu-io', ['-f', 'raw', '-c', 'write -P 7 0 64k', path('base.raw')], { stdio: 'ignore' })
    }],
    ['got what was in the image between', 'told', ({ path }) => void img('commit', '-q', path('middle.qcow2'))],
    ['was replaced by a file of the same size and time', 'told', ({ path }) => {
      img('convert', '-f', 'raw', '-O', 'raw', path('base.raw'), path('copy.raw'))
      execFileSync('qemu-io', ['-f', 'raw', '-c', 'write -P 7 0 64k', path('copy.raw')], { stdio: 'ignore' })
      execFileSync('touch', ['-r', path('base.raw'), path('copy.raw')])
      renameSync(path('copy.raw'), path('base.raw'))
    }],
  ])('and %s while the machine is off, is noticed when it runs, and when it does not', async (_, how, change) => {
    const scene = await layered()
    const { machine, offline } = scene
    const first = await commit(machine.tracker())
    await machine.qemu.quit()
    change(scene)
    const whileOff = await told(offline, first).catch((error: { readonly code: string }) => error.code)
    // It is refused where the image names another backing file, or another format of it, than is configured.
    expect(whileOff).toBe(how === 'told' ? 'other-disk' : 'tracker')
    await machine.restart()
    expect(await told(machine.tracker(), first)).toBe('other-disk')
    // Once: the next point goes on from this one.
    const second = await commit(machine.tracker(), first)
    await machine.qemu.write(virtioDisk('root'), Buffer.alloc(512, 9), 3 * mib)
    expect(await told(machine.tracker(), second)).toEqual(changed)
  })

  it('and has another file in its place while QEMU reads the old one, is not believed to stay', async () => {
    const { machine, path } = await layered()
    const first = await commit(machine.tracker())
    img('convert', '-f', 'qcow2', '-O', 'qcow2', path('root.qcow2'), '-U', path('new.qcow2'))
    io(path('new.qcow2'), 'write -P 8 1M 64k')
    renameSync(path('new.qcow2'), path('middle.qcow2'))
    expect(await told(machine.tracker(), first)).toBe('untracked')
    await using doctor = createQemuDoctor(machine.options())
    const findings = await doctor.examine({ owner, previous: first, recall, signal })
    expect(findings.map(({ message }) => message)).toContainEqual(expect.stringContaining('root: compared every time'))
    const second = await commit(machine.tracker(), first)
    await machine.qemu.quit()
    await machine.restart()
    await using taken = await checkpoint(machine.tracker(), second)
    await expect(changesOf(taken, 'root', second)).rejects.toMatchObject({ reason: 'untracked' })
    expect((await contentOf(storeOf(taken, 'root')))[mib]).toBe(8)
  })

  it('and is no file of this host, vouches for nothing', async () => {
    expect(await fingerprintChain([{ format: 'raw', path: join(temporaryFolder(), 'gone.raw') }])).toBe(UNKNOWN_BELOW)
    expect(await fingerprintChain([{ format: 'raw', path: '/dev/null' }])).toBe(UNKNOWN_BELOW)
  })
})
