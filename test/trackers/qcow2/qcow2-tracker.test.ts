import { execFileSync } from 'node:child_process'
import { chmodSync, chownSync, mkdirSync, readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import type { ReferencePoint } from '../../../src/model/reference-point.js'
import type { Checkpoint } from '../../../src/trackers/tracker.js'
import { createQcow2Tracker } from '../../../src/trackers/qcow2/qcow2-tracker.js'
import { describeWith } from '../../layers.js'
import { makeImage } from '../../qemu/images.js'
import { recall } from '../../recall.js'
import { temporaryFolder } from '../../temporary.js'
import { holdOpen, offlineMachine, type OfflineMachine, qemuIo, storedBitmaps } from './machine.js'

const owner = { repositoryId: 'repository', machineUuid: 'machine' }
const { signal } = new AbortController()
const asRoot = process.getuid?.() === 0

async function takePoint({ tracker }: OfflineMachine): Promise<ReferencePoint> {
  await using taken = await tracker.checkpoint({ owner, previous: undefined, recall, signal })
  const committed = pointOf(taken)
  await tracker.release(committed, owner)
  return committed
}

function pointOf(taken: Checkpoint): ReferencePoint {
  const changeIds = Object.fromEntries(taken.stores.map(({ name, changeId }) => [name, changeId ?? '']))
  return { point: 1, time: taken.time.toISOString(), consistency: taken.consistency, changeIds }
}

/** Processes of a program that have a file open. */
function processesWith(program: string, path: string): number[] {
  return readdirSync('/proc').map(Number).filter((pid) => {
    try {
      if (!readFileSync(`/proc/${pid}/cmdline`, 'latin1').startsWith(`${program}\0`)) return false
      return readdirSync(`/proc/${pid}/fd`).some((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`) === path)
    } catch {
      return false
    }
  })
}

async function changedBytes(taken: Checkpoint, store: string, since: ReferencePoint): Promise<number> {
  const frozen = taken.stores.find(({ name }) => name === store)
  let bytes = 0
  for await (const page of (await frozen?.changedExtents(since.changeIds[store] ?? '', { signal })) ?? [])
    for (const { length } of page) bytes += length
  return bytes
}

describeWith(['qemu-storage-daemon', 'qemu-img', 'qemu-io'], 'images of a machine that is shut down', () => {
  test('can not be opened for writing while a checkpoint holds them, nor by another run', async () => {
    const machine = await offlineMachine()
    const held = await machine.tracker.checkpoint({ owner, previous: undefined, recall, signal })
    for (const store of ['root', 'data']) expect(await holdOpen(machine.pathOf(store))).toBeUndefined()
    const second = machine.another().checkpoint({ owner, previous: undefined, recall, signal })
    await expect(second).rejects.toMatchObject({ code: 'locked', message: expect.stringContaining('root.qcow2 is in use') })
    await held[Symbol.asyncDispose]()
    for (const store of ['root', 'data']) expect(await holdOpen(machine.pathOf(store))).toBeDefined()
  })

  test('lose no track when the storage daemon is killed while they are read', async () => {
    const machine = await offlineMachine()
    const first = await takePoint(machine)
    await qemuIo(machine.pathOf('root'), 'write -P 5 1M 8k')
    const held = await machine.another().checkpoint({ owner, previous: first, recall, signal })
    await held.assertStable()
    const daemons = processesWith('qemu-storage-daemon', machine.pathOf('root'))
    expect(daemons).toHaveLength(1)
    for (const pid of daemons) process.kill(pid, 'SIGKILL')
    await expect
      .poll(() => held.assertStable().catch((error: unknown) => error), { timeout: 60_000 })
      .toMatchObject({ code: 'tracker' })
    await held[Symbol.asyncDispose]()
    await using next = await machine.another().checkpoint({ owner, previous: first, recall, signal })
    expect(await changedBytes(next, 'root', first)).toBe(8192)
    expect(await changedBytes(next, 'data', first)).toBe(0)
  })

  test('lose no track when the run is aborted at any time, and nothing is left running', async () => {
    const machine = await offlineMachine()
    const first = await takePoint(machine)
    await qemuIo(machine.pathOf('data'), 'write -P 5 1M 8k')
    for (const milliseconds of [0, 5, 10, 20, 40, 80, 160]) {
      const reason = new Error('enough')
      const aborted = new AbortController()
      const timer = setTimeout(() => aborted.abort(reason), milliseconds)
      try {
        const taken = await machine.another().checkpoint({ owner, previous: first, recall, signal: aborted.signal })
        await taken[Symbol.asyncDispose]()
      } catch (error) {
        expect(error).toBe(reason)
      }
      clearTimeout(timer)
      expect(processesWith('qemu-storage-daemon', machine.pathOf('data'))).toEqual([])
    }
    await using next = await machine.another().checkpoint({ owner, previous: first, recall, signal })
    expect(await changedBytes(next, 'data', first)).toBe(8192)
    expect(await storedBitmaps(machine.pathOf('data'))).toHaveLength(2)
  })

  test.skipIf(!asRoot)('are not opened for writing where their bitmaps could not be saved (needs root)', async () => {
    const small = join(temporaryFolder(), 'small')
    mkdirSync(small)
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'none', small])
    onTestFinished(() => void execFileSync('umount', ['--lazy', small]))
    // Of 16 TiB, one bitmap takes 16 MiB.
    const path = await makeImage(join(small, 'root.qcow2'), 'qcow2', 2 ** 44)
    const before = readFileSync(path)
    const tracker = createQcow2Tracker({ images: { root: { path, format: 'qcow2' } }, granularityBytes: undefined })
    const refused = tracker.checkpoint({ owner, previous: undefined, recall, signal })
    await expect(refused).rejects.toMatchObject({ code: 'tracker', message: expect.stringContaining('bytes are free') })
    expect(readFileSync(path).equals(before)).toBe(true)
  })

  test.skipIf(!asRoot)('are opened by nobody mightier than their owner (needs root)', async () => {
    const machine = await offlineMachine()
    chmodSync(machine.folder, 0o755)
    const userOf = async (): Promise<number[]> => {
      await using held = await machine.another().checkpoint({ owner, previous: undefined, recall, signal })
      expect(held.stores).toHaveLength(2)
      const daemons = processesWith('qemu-storage-daemon', machine.pathOf('root'))
      return daemons.map((pid) => statSync(`/proc/${pid}`).uid)
    }
    expect(await userOf()).toEqual([0])
    chownSync(machine.pathOf('root'), 65534, 65534)
    expect(await userOf()).toEqual([0])
    chownSync(machine.pathOf('data'), 65534, 65534)
    expect(await userOf()).toEqual([65534])
  })
})
