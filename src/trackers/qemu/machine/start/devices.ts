import type { QemuOption } from './command-line.js'
import type { Rewriting } from './rewriting.js'
import { formatTree, parseTree, textAt, type Tree, type WrittenTree } from './tree.js'

/** Devices that are a piece of the host, which another machine may be using. */
const ofHost =
  /^(vfio-|vhost-|usb-host$|ivshmem|xen-|u2f-passthru$|scsi-generic$|nvdimm$|virtio-pmem|ccw-vfio|pci-assign$|x-vfio)/
/** The properties that name a drive or node. */
const driveKeys = ['drive', 'driveA', 'driveB'] as const

export interface Device {
  readonly written: WrittenTree
  readonly driver: string
  readonly id: string | undefined
  /** What its drives are called. */
  readonly drives: readonly string[]
}

export function readDevice(option: QemuOption): Device {
  const written = parseTree(option.value ?? '', 'driver')
  const drives = driveKeys.flatMap((key) => textAt(written.tree, key) ?? [])
  return { written, driver: textAt(written.tree, 'driver') ?? '', id: textAt(written.tree, 'id'), drives }
}

/** Whether what it holds can be taken out. */
export function isRemovable({ driver }: Device): boolean {
  return /-cd$|^floppy$|^isa-fdc$/.test(driver)
}

export interface DriveFates {
  /** Drives and nodes that there is nothing in any more, while their device stays. */
  readonly emptied: ReadonlySet<string>
  /** Drives and nodes that go, with their device. */
  readonly gone: ReadonlySet<string>
  /** Ids of `-tpmdev` that go, with their device. */
  readonly goneTpms: ReadonlySet<string>
}

/** The device of the restored machine; undefined where it goes. */
export function rewriteDevice(device: Device, fates: DriveFates, rewriting: Rewriting): QemuOption | undefined {
  const { written, driver, id, drives } = device
  const called = id === undefined ? driver : `${driver} '${id}'`
  if (ofHost.test(driver)) {
    rewriting.changed(`without ${called}, which is a part of the host`)
    return undefined
  }
  if (drives.some((drive) => fates.gone.has(drive))) return undefined
  const tpm = textAt(written.tree, 'tpmdev')
  if (tpm !== undefined && fates.goneTpms.has(tpm)) return undefined
  let tree: Tree = written.tree
  for (const key of driveKeys) {
    if (!fates.emptied.has(textAt(tree, key) ?? '')) continue
    tree = Object.fromEntries(Object.entries(tree).filter(([other]) => other !== key))
  }
  if (driver === 'scsi-block') {
    rewriting.changed(`${called} is scsi-hd, since its disk is a file now`)
    tree = { ...tree, driver: 'scsi-hd' }
  }
  return { name: 'device', value: formatDevice({ ...written, tree }) }
}

/** The driver comes first, and as a word: older versions know it in no other form. */
function formatDevice(written: WrittenTree): string {
  if (written.form === 'json') return formatTree(written)
  const { driver, ...others } = written.tree
  const rest = formatTree({ form: 'keys', tree: others })
  return rest === '' ? String(driver) : `${String(driver)},${rest}`
}
