import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { describeWith } from '../../layers.js'
import { guestBytes, guestWord, installGuest, untilTurns } from '../../qemu/guest.js'
import { makeImage } from '../../qemu/images.js'
import type { QemuProcess } from '../../qemu/qemu-process.js'
import { temporaryFolder } from '../../temporary.js'
import { checkpoint, commit } from './checkpoints.js'
import { expectNothingLeft } from './left-over.js'
import { LiveMachine } from './live-machine.js'

interface Node {
  readonly 'node-name': string
  readonly cache: { readonly 'no-flush': boolean }
}

const flushMs = 300
/** Words of the guest's memory, see test/qemu/guest/boot.S. */
const [guestWorst, guestEnded] = [0x7e18, 0x7e28]

function slowFlush(folder: string): string {
  const [object, library] = [join(folder, 'slow-flush.o'), join(folder, 'slow-flush.so')]
  execFileSync('as', ['-o', object, join(import.meta.dirname, '../../qemu/slow-flush.S')])
  execFileSync('ld', ['-shared', '-o', library, object])
  return library
}

/** The guest's clock, in the units of its longest write. */
async function guestTicks(qemu: QemuProcess): Promise<number> {
  return ((await guestWord(qemu, guestEnded + 4)) * 2 ** 32 + (await guestWord(qemu, guestEnded))) / 65_536
}

describeWith(['qemu-system-x86_64', 'qemu-img', 'qemu-io', 'as'], 'on storage whose flush takes 300 ms', () => {
  /*
   * The bound: QEMU does nothing else while a command of its monitor waits for a disk. A run flushes the disk before the
   * instant, at it, and when the filters go, so that what follows finds nothing to wait for; a flush of a qcow2 image is
   * two of its file, first the tables and then the rest. So a write of the guest waits for one such command, for two
   * when it began between them, and never for the run: four times 300 ms, and what a busy host adds.
   */
  it('the longest write of the guest is bounded by the flush, and does not add up over a run', async () => {
    const folder = temporaryFolder()
    const path = await makeImage(join(folder, 'root.qcow2'), 'qcow2', guestBytes)
    // It writes without a pause, so that whatever waits is one of its writes. On IDE none flushes for itself.
    await installGuest(path, 'qcow2', { pauseTicks: 0 })
    const args = ['-drive', `file=${path},format=qcow2,if=ide,id=root`]
    const machine = await LiveMachine.start(folder, args, { runs: true, env: { LD_PRELOAD: slowFlush(folder) } })
    await untilTurns(machine.qemu, 50)
    const [from, began] = [await guestTicks(machine.qemu), performance.now()]
    await delay(1000)
    const tickMs = (performance.now() - began) / ((await guestTicks(machine.qemu)) - from)
    const started = performance.now()
    const first = await commit(machine.tracker())
    const taken = await checkpoint(machine.tracker(), first)
    const nodes = (await machine.qemu.monitor.execute('query-named-block-nodes', { flat: true })) as readonly Node[]
    // Nothing of the fleecing area is ever flushed: the guest's first write to each block would wait for it, too.
    const area = nodes.filter((node) => /^refpoint-.*-(file|cap|tmp)$/.test(node['node-name']))
    expect(area.map(({ cache }) => cache['no-flush'])).toEqual([true, true, true])
    await taken[Symbol.asyncDispose]()
    const tookMs = performance.now() - started
    const longestMs = (await guestWord(machine.qemu, guestWorst)) * tickMs
    // The storage was slow, and the guest had to wait for it, but not for all of it.
    expect(tookMs).toBeGreaterThan(8 * flushMs)
    expect(longestMs).toBeGreaterThan(flushMs / 2)
    expect(longestMs).toBeLessThan(5 * flushMs)
    await expectNothingLeft(machine)
  })
})
