import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { createQemuDoctor } from '../../../src/trackers/qemu/doctor/qemu-doctor.js'
import { nbdSocketPath, removeStaleSockets } from '../../../src/trackers/qemu/nbd-socket.js'
import { lockProcess } from '../../../src/trackers/qemu/process-lock.js'
import { describeWith } from '../../layers.js'
import { recall } from '../../recall.js'
import { checkpoint, owner, signal } from './checkpoints.js'
import { LiveMachine } from './live-machine.js'

const one = [{ name: 'root', format: 'qcow2', sizeBytes: 4 * 1024 ** 2 }] as const

/** A backup that was killed with its QEMU: the folder that is left. */
async function killedTogether(machine: LiveMachine): Promise<string> {
  const abandoned = await checkpoint(machine.tracker())
  const folder = dirname(nbdSocketPath(machine.qemu))
  expect(existsSync(folder)).toBe(true)
  await (abandoned as unknown as { session: AsyncDisposable }).session[Symbol.asyncDispose]()
  await machine.qemu.kill()
  return folder
}

/** A number that no process has, nor will have soon. */
const nobody = 2 ** 22 - 1 - process.pid

describeWith(['qemu-system-x86_64', 'qemu-img'], 'the folder of a QEMU that ended during a backup', () => {
  it('goes with the run, when that still lives', async () => {
    const machine = await LiveMachine.withDisks(one)
    const taken = await checkpoint(machine.tracker())
    const folder = dirname(nbdSocketPath(machine.qemu))
    expect(existsSync(folder)).toBe(true)
    await machine.qemu.kill()
    await taken[Symbol.asyncDispose]()
    expect(existsSync(folder)).toBe(false)
  })

  it('goes with the next run, or by the doctor, when the run was killed with it', async () => {
    const machine = await LiveMachine.withDisks(one)
    const folder = await killedTogether(machine)
    await machine.restart()
    await (await checkpoint(machine.tracker()))[Symbol.asyncDispose]()
    expect(existsSync(folder)).toBe(false)
    const second = await killedTogether(machine)
    await machine.restart()
    await using doctor = createQemuDoctor(machine.options())
    await doctor.fix({ owner, previous: undefined, recall, signal })
    expect(existsSync(second)).toBe(false)
  })

  it('stays while a process has that number, a run is about to use it, or it holds something else', async () => {
    const folderOf = (pid: number): string => {
      const folder = dirname(nbdSocketPath({ pid }))
      mkdirSync(folder, { recursive: true, mode: 0o700 })
      onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
      return folder
    }
    const taken = folderOf(process.pid)
    const wanted = folderOf(nobody)
    const lock = await lockProcess(`qemu-${nobody}`, { what: wanted, waitMs: 0, signal })
    const full = folderOf(nobody - 1)
    writeFileSync(join(full, 'of-somebody'), '')
    await removeStaleSockets()
    for (const folder of [taken, wanted, full]) expect(existsSync(folder)).toBe(true)
    await lock.release()
    await removeStaleSockets()
    expect(existsSync(wanted)).toBe(false)
    expect(existsSync(taken)).toBe(true)
  })
})
