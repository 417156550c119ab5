import { execFileSync } from 'node:child_process'
import { statfsSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, it } from 'vitest'
import type { ReferencePoint } from '../../../src/model/reference-point.js'
import { shippedModule, startChild, type Child } from '../../child-process.js'
import { describeWith } from '../../layers.js'
import { guestBytes, installGuest, turnNow, untilTurns } from '../../qemu/guest.js'
import { blockdevDisk, makeImage, virtioDisk } from '../../qemu/images.js'
import { temporaryFolder } from '../../temporary.js'
import { mountExt4 } from '../image/loop-mount.js'
import { changesOf, checkpoint, commit, contentOf, owner, pointOf, storeOf } from './checkpoints.js'
import { expectNothingLeft } from './left-over.js'
import { LiveMachine, openLiveSource } from './live-machine.js'

const mib = 1024 * 1024
const dataBytes = 64 * mib

/** A guest that writes to its first disk all the while; the second is full of data. */
async function runningGuest(folder = temporaryFolder()): Promise<LiveMachine> {
  const root = await makeImage(join(folder, 'root.qcow2'), 'qcow2', guestBytes)
  const data = await makeImage(join(folder, 'data.qcow2'), 'qcow2', dataBytes)
  await installGuest(root, 'qcow2')
  execFileSync('qemu-io', ['-c', `write -P 5 0 ${dataBytes}`, data], { stdio: 'ignore' })
  const args = [...blockdevDisk('root', root, 'qcow2'), ...blockdevDisk('data', data, 'qcow2')]
  const machine = await LiveMachine.start(folder, args, { runs: true })
  await untilTurns(machine.qemu, 5)
  return machine
}

/** An agent in a process of its own that holds a checkpoint, and reads all of the data disk at once when told. */
async function agent(machine: LiveMachine, previous?: ReferencePoint): Promise<Child> {
  const options = { qmp: machine.qmp, exclude: [], fleecing: {}, waitMs: 60_000 }
  const child = startChild(`
    const { createQemuTracker } = await import(${shippedModule('trackers/qemu/qemu-tracker.js')})
    const { openNbdSource } = await import(${shippedModule('nbd/nbd-source.js')})
    const tracker = createQemuTracker(${JSON.stringify(options)})
    const taken = await tracker.checkpoint({ owner: ${JSON.stringify(owner)}, previous: ${JSON.stringify(previous)}, signal: new AbortController().signal })
    const { source } = taken.stores.find(({ name }) => name === 'data')
    const readers = await Promise.all([1, 2, 3].map(() => openNbdSource(source)))
    await Promise.all(readers.map((reader) => reader.read(Buffer.alloc(1024 * 1024), 0)))
    console.log('reads')
    for (;;) await Promise.all(readers.map((reader, n) => reader.read(Buffer.alloc(8 * 1024 * 1024), n * 16 * 1024 * 1024)))
  `)
  expect(await child.line()).toBe('reads')
  return child
}

describeWith(['qemu-system-x86_64', 'qemu-img', 'qemu-io'], 'the guest comes first', () => {
  it('when the agent is stopped in the middle of reading: it goes on, even through stop and cont', async () => {
    const machine = await runningGuest()
    for (let round = 0; round < 3; round += 1) {
      const child = await agent(machine)
      await delay(20 * round)
      child.process.kill('SIGSTOP')
      await untilTurns(machine.qemu, 10)
      await machine.qemu.monitor.execute('stop', {}, { timeoutMs: 60_000 })
      await machine.qemu.monitor.execute('cont', {}, { timeoutMs: 60_000 })
      await machine.qemu.io(virtioDisk('data'), 'write -P 6 0 1M')
      await untilTurns(machine.qemu, 5)
      child.process.kill('SIGKILL')
      await child.ended()
    }
    await using taken = await checkpoint(machine.tracker())
    expect(taken.stores).toHaveLength(2)
    await taken[Symbol.asyncDispose]()
    await expectNothingLeft(machine)
  })

  it('when the fleecing area is full: it goes on, the backup fails and says why, and nothing is lost', async () => {
    const machine = await runningGuest()
    const limitBytes = 32 * mib
    const tracker = machine.tracker({ fleecing: { folder: undefined, limitBytes } })
    const first = await checkpoint(tracker)
    const point = pointOf(first)
    await tracker.release(point, owner)
    // All of the data disk is overwritten, four times what the area can take.
    const writing = machine.qemu.io(virtioDisk('data'), `write -P 7 0 ${dataBytes}`)
    await untilTurns(machine.qemu, 10)
    await writing
    await untilTurns(machine.qemu, 10)
    const reader = await openLiveSource(storeOf(first, 'data').source)
    const reading = (async () => {
      for (let at = 0; at < dataBytes; at += mib) await reader.read(Buffer.alloc(mib), at)
    })()
    await expect(reading).rejects.toMatchObject({ code: 'tracker', hint: expect.stringContaining('for fleecing') })
    await reader.close()
    await first[Symbol.asyncDispose]()
    await expectNothingLeft(machine)
    const turn = await turnNow(machine.qemu)

    await using second = await checkpoint(machine.tracker(), point)
    expect(await changesOf(second, 'data', point)).toEqual([{ offset: 0, length: dataBytes }])
    await untilTurns(machine.qemu, 2)
    expect(await turnNow(machine.qemu)).toBeGreaterThan(turn)
  })
})

/** The processor and every disk of a guest, after a minute's wait at most for each. */
async function expectRunning({ qemu }: LiveMachine): Promise<void> {
  await untilTurns(qemu, 5)
  expect(await qemu.monitor.execute('query-status')).toMatchObject({ status: 'running' })
}

describeWith(['qemu-system-x86_64', 'qemu-img', 'qemu-io', 'loop-ext4'], 'the guest comes first on a small file system', () => {
  it('when the agent is stopped, and image and fleecing area share it: it goes on, and nothing is lost', async () => {
    const folder = mountExt4(192 * mib)
    const machine = await runningGuest(folder)
    const point = await commit(machine.tracker())
    const child = await agent(machine, point)
    child.process.kill('SIGSTOP')
    // All that the disk has is overwritten, more than there is room for beside it, and twice.
    const freeBytes = (): number => {
      const { bavail, bsize } = statfsSync(folder)
      return bavail * bsize
    }
    expect(freeBytes()).toBeLessThan(dataBytes * 2)
    const overwrites = ['write -P 7 0 32M', 'write -P 8 32M 32M', 'write -P 9 0 64M']
    for (const command of overwrites) {
      await machine.qemu.io(virtioDisk('data'), command)
      await expectRunning(machine)
      expect(freeBytes()).toBeGreaterThan(mib)
    }
    child.process.kill('SIGKILL')
    await child.ended()
    await using next = await checkpoint(machine.tracker(), point)
    expect(await changesOf(next, 'data', point)).toEqual([{ offset: 0, length: dataBytes }])
    // Past what the guest itself writes.
    const content = (await contentOf(storeOf(next, 'data'))).subarray(guestBytes)
    expect(content.every((byte) => byte === 9)).toBe(true)
    await next[Symbol.asyncDispose]()
    await expectNothingLeft(machine)
    await machine.qemu.quit()
  })
})
