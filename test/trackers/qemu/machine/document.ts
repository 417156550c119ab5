import type { MachineDisk, MachineDocument } from '../../../../src/trackers/qemu/machine/document.js'
import { planStart } from '../../../../src/trackers/qemu/machine/start/rewrite.js'
import { FOLDER, RUN_FOLDER } from '../../../../src/trackers/qemu/machine/start/rewriting.js'

/** A machine that was started so, with what QEMU would tell of it. */
export function machineOf(args: readonly string[], told: Partial<MachineDocument> = {}): MachineDocument {
  return {
    format: 1,
    time: '2026-01-31T03:00:00.000Z',
    qemu: { version: '7.2.22', package: '' },
    name: 'web01',
    uuid: null,
    machineType: 'pc-q35-7.2',
    process: {
      pid: 4711,
      executable: '/usr/bin/qemu-system-x86_64',
      commandLine: ['/usr/bin/qemu-system-x86_64', ...args],
      workingDirectory: '/srv',
      uid: 0,
      gid: 0,
      optionFiles: [],
    },
    processProblem: null,
    disks: [],
    firmware: [],
    tpms: [],
    qmp: {},
    ...told,
  }
}

export function diskOf(store: string | null, path: string, told: Partial<MachineDisk> = {}): MachineDisk {
  return {
    store,
    device: `/machine/unattached/${path}`,
    drive: null,
    node: '#block1',
    format: 'qcow2',
    sizeBytes: 1024 ** 2,
    readOnly: false,
    removable: false,
    images: [{ format: 'qcow2', filename: path, path }],
    ...told,
  }
}

/** The options for the restored machine, with `$folder` and `$run` for its places, and what is said of them. */
export function startOf(document: MachineDocument, formats: Readonly<Record<string, string>> = {}) {
  const stores = Object.entries(formats).map(([store, format]) => ({ store, file: `${store}.${format}`, format }))
  const plan = planStart(document, stores)
  return {
    ...plan,
    lines: plan.options.map(({ name, value }) => (value === undefined ? `-${name}` : `-${name} ${named(value)}`)),
  }
}

function named(value: string): string {
  return value.replaceAll(FOLDER, '$folder').replaceAll(RUN_FOLDER, '$run')
}
