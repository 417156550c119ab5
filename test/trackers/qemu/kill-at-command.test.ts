import { expect, it } from 'vitest'
import type { ReferencePoint } from '../../../src/model/reference-point.js'
import { shippedModule, startChild } from '../../child-process.js'
import { describeWith } from '../../layers.js'
import { virtioDisk } from '../../qemu/images.js'
import { changesOf, checkpoint, owner, storeOf } from './checkpoints.js'
import { bitmapsOf, expectNothingLeft } from './left-over.js'
import { LiveMachine, openLiveSource } from './live-machine.js'
import { tapQmp } from './qmp-tap.js'

const mib = 1024 * 1024
const disks = [
  { name: 'root', format: 'qcow2', sizeBytes: 8 * mib },
  { name: 'data', format: 'raw', sizeBytes: 8 * mib },
] as const
/** All commands of a run are tried in the long form; here, each so many. */
const stride = process.env['REFPOINT_LONG'] === '1' ? 1 : 7

/** A whole run on the machine: takes a checkpoint on `previous`, reads, says what it commits, and releases. */
function agentProgram(qmp: string, previous: ReferencePoint | undefined): string {
  const options = { qmp, exclude: [], fleecing: {}, waitMs: 60_000 }
  return `
    const { createQemuTracker } = await import(${shippedModule('trackers/qemu/qemu-tracker.js')})
    const { openNbdSource } = await import(${shippedModule('nbd/nbd-source.js')})
    const tracker = createQemuTracker(${JSON.stringify(options)})
    const owner = ${JSON.stringify(owner)}
    const previous = ${JSON.stringify(previous)}
    try {
      const taken = await tracker.checkpoint({ owner, previous, signal: new AbortController().signal })
      for (const { source } of taken.stores) {
        const reader = await openNbdSource(source)
        await reader.read(Buffer.alloc(1024 * 1024), 0)
        await reader.close()
      }
      const changeIds = Object.fromEntries(taken.stores.map(({ name, changeId }) => [name, changeId]))
      const point = { point: 1, time: taken.time.toISOString(), consistency: taken.consistency, changeIds }
      console.log(JSON.stringify(point))
      await tracker.release(point, owner)
      await taken[Symbol.asyncDispose]()
    } catch (error) {
      process.exit(error.code === 'tracker' ? 14 : 1)
    }
  `
}

/** Runs an agent in a process of its own; resolves to the point that it committed, if it came so far. */
async function runAgent(qmp: string, previous: ReferencePoint | undefined, started: (pid: number) => void) {
  const child = startChild(agentProgram(qmp, previous))
  started(child.process.pid ?? 0)
  const committed = await child.line().then(
    (line) => JSON.parse(line) as ReferencePoint,
    () => undefined,
  )
  return { committed, status: await child.ended() }
}

/** How many commands a whole run is. */
async function commandsOfRun(machine: LiveMachine, previous: ReferencePoint | undefined) {
  const tap = await tapQmp(machine.qmp, () => {})
  const { committed, status } = await runAgent(tap.path, previous, () => {})
  expect(status).toBe(0)
  return { count: tap.commands.length, committed }
}

describeWith(['qemu-system-x86_64', 'qemu-img'], 'a run that ends at any of its commands to QEMU', () => {
  it('when the agent is killed, loses no change and leaves nothing to the next run', async () => {
    const machine = await LiveMachine.withDisks(disks)
    let { count, committed: previous } = await commandsOfRun(machine, undefined)
    expect(count).toBeGreaterThan(40)
    const written = new Set<number>()
    for (let at = 1 + Math.floor(Math.random() * stride); at <= count; at += stride) {
      let pid = 0
      const tap = await tapQmp(machine.qmp, (number) => {
        if (number === at) process.kill(pid, 'SIGKILL')
      })
      const before = written.size
      written.add(before)
      for (const { name } of disks) await machine.qemu.write(virtioDisk(name), Buffer.alloc(512, 1 + at), before * 65_536)
      const { committed, status } = await runAgent(tap.path, previous, (started) => (pid = started))
      expect(status, `killed at command ${at}, ${tap.commands.at(-1)}`).toBe('SIGKILL')
      if (committed !== undefined) {
        previous = committed
        written.clear()
      }
      const next = written.size
      written.add(next)
      for (const { name } of disks) await machine.qemu.write(virtioDisk(name), Buffer.alloc(512, 2 + at), next * 65_536)

      const about = `after a kill at command ${at}, ${tap.commands.at(-1)}`
      if (previous === undefined) throw new Error('no point')
      const taken = await checkpoint(machine.tracker(), previous)
      for (const { name } of disks) {
        const told = await changesOf(taken, name, previous)
        const missed = [...written].filter((block) => {
          const at = block * 65_536
          return !told.some(({ offset, length }) => offset <= at && at + 512 <= offset + length)
        })
        expect(missed, `${about}, disk ${name}`).toEqual([])
        const reader = await openLiveSource(storeOf(taken, name).source)
        const block = Buffer.alloc(512)
        await reader.read(block, next * 65_536)
        expect(block.equals(Buffer.alloc(512, 2 + at)), about).toBe(true)
        await reader.close()
      }
      await taken[Symbol.asyncDispose]()
      await expectNothingLeft(machine)
      // That of the last point and that of the checkpoint, on both disks.
      expect((await bitmapsOf(machine.qemu.monitor)).length, about).toBe(4)
    }
  }, 900_000)

  it('when QEMU is killed, fails as a tracker does, and starts and is backed up again', async () => {
    const machine = await LiveMachine.withDisks(disks)
    const { count, committed: previous } = await commandsOfRun(machine, undefined)
    if (previous === undefined) throw new Error('no point')
    for (let at = 1 + Math.floor(Math.random() * stride); at <= count; at += stride) {
      const tap = await tapQmp(machine.qmp, (number) => {
        if (number === at) machine.qemu.signal('SIGKILL')
      })
      const { committed, status } = await runAgent(tap.path, previous, () => {})
      const about = `QEMU killed at command ${at}, ${tap.commands.at(-1)}`
      // A machine that is gone needs no release and no clean-up: what was committed before stays so.
      expect(status, about).toBe(committed === undefined ? 14 : 0)
      await machine.qemu.ended
      await machine.restart()
      const taken = await checkpoint(machine.tracker(), committed ?? previous)
      for (const { name } of disks) {
        const expired = changesOf(taken, name, committed ?? previous)
        await expect(expired, about).rejects.toMatchObject({ name: 'ChangeIdExpired' })
      }
      await taken[Symbol.asyncDispose]()
      await expectNothingLeft(machine)
    }
  }, 900_000)
})

