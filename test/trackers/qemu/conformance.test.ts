import { describeTracker, type TrackedMachine } from '../../conformance/tracker.js'
import { virtioDisk } from '../../qemu/images.js'
import { describeWith } from '../../layers.js'
import { LiveMachine, openLiveSource } from './live-machine.js'

const mib = 1024 * 1024

/** A running machine of two disks of one format. */
async function running(format: 'qcow2' | 'raw'): Promise<TrackedMachine> {
  const disks = [
    { name: 'root', sizeBytes: 6 * mib },
    { name: 'data', sizeBytes: 4 * mib },
  ] as const
  const machine = await LiveMachine.withDisks(disks.map((disk) => ({ ...disk, format })))
  return {
    tracker: machine.tracker(),
    another: () => machine.tracker(),
    stores: disks,
    files: ['qemu/machine.json'],
    write: async (store, bytes, offset) => await machine.qemu.write(virtioDisk(store), bytes, offset),
    zero: async (store, offset, length) => await machine.qemu.zero(virtioDisk(store), offset, length),
    openSource: openLiveSource,
    crashLayer: async () => {
      for (const { name } of disks) await machine.qemu.io(virtioDisk(name), 'flush')
      await machine.qemu.kill()
      await machine.restart()
    },
    resize: async (store, size) => {
      await machine.qemu.monitor.execute('block_resize', { 'node-name': `${store}-node`, size })
    },
  }
}

describeWith(['qemu-system-x86_64', 'qemu-img'], 'the tracker of running machines', () => {
  describeTracker({ name: 'qcow2 disks', machine: () => running('qcow2'), writesWhileHeld: true })
  describeTracker({ name: 'raw disks', machine: () => running('raw'), writesWhileHeld: true })
})
