import { describeTracker } from '../../conformance/tracker.js'
import { describeWith } from '../../layers.js'
import { offlineMachine } from './machine.js'

describeWith(['qemu-storage-daemon', 'qemu-img', 'qemu-io'], 'the tracker of machines that are shut down', () => {
  describeTracker({ name: 'qcow2 images', machine: offlineMachine, writesWhileHeld: false })
})
