/*
 * The command line of a restored machine, from that of the machine that was backed up. Every option goes through one
 * rule; what is not known stops it, for an option that is passed on unseen could open a disk of the original. The order
 * of options stays, since QEMU numbers disks, cards and buses by it.
 */
import type { MachineDocument } from '../document.js'
import { applyFate, BlockNodes } from './blockdevs.js'
import { rewriteChardev, rewriteShortChardev } from './character-devices.js'
import { parseCommandLine, type QemuOption } from './command-line.js'
import { type Device, isRemovable, readDevice, rewriteDevice } from './devices.js'
import { type Drive, isDrive, readDrive, rewriteDrive } from './drives.js'
import { checkOptionFile, keepsUsb, rewriteDisplay, rewriteObject, rewriteSet, tellHostFiles } from './host-options.js'
import { rewriteNet, rewriteNetdev, rewriteNic } from './network.js'
import { formatOptionValue, parseOptionValue, valueOf, withValue } from './option-value.js'
import { FOLDER, type RestoredStore, Rewriting, RUN_FOLDER, StartRefused } from './rewriting.js'
import { planTpms, type StartTpm } from './tpms.js'
import { formatTree, parseTree, textAt } from './tree.js'

export interface StartPlan {
  /** The program that ran it. */
  readonly program: string
  readonly options: readonly QemuOption[]
  /** Programs that must be there first. */
  readonly tpms: readonly StartTpm[]
  /** What differs from how the machine was started. */
  readonly changes: readonly string[]
  /** What it uses of the host as it is. */
  readonly needs: readonly string[]
}

/** @throws StartRefused where it would have to be guessed, with every reason. */
export function planStart(document: MachineDocument, stores: readonly RestoredStore[]): StartPlan {
  const { process } = document
  if (process === null)
    throw new StartRefused([
      `the machine's command line is not in the point: ${document.processProblem ?? 'not known why'}`,
    ])
  if (process.commandLine.some((argument) => argument.includes('\ufffd'))) {
    throw new StartRefused(['the command line has bytes that are no text'])
  }
  const rewriting = new Rewriting(document, stores)
  let options: readonly QemuOption[] = []
  let tpms: readonly StartTpm[] = []
  try {
    const original = parseCommandLine(process.commandLine.slice(1))
    tpms = planTpms(document, rewriting)
    options = rewriteAll(original, tpms, rewriting)
  } catch (error) {
    rewriting.refuse(error instanceof Error ? error.message : String(error))
  }
  if (rewriting.refusals.length > 0) throw new StartRefused(rewriting.refusals)
  tellUnused(options, stores, rewriting)
  const [name = ''] = process.commandLine
  const program = name.includes('/') && !name.startsWith('/') ? process.executable : name
  return { program, options, tpms, changes: rewriting.changes, needs: rewriting.needs }
}

/** What the passes over the command line know together. */
interface Parts {
  readonly drives: ReadonlyMap<QemuOption, Drive>
  readonly devices: ReadonlyMap<QemuOption, Device>
  readonly nodes: BlockNodes
  readonly keptNodes: ReadonlySet<string>
  readonly emptied: ReadonlySet<string>
  readonly gone: ReadonlySet<string>
  readonly goneTpms: ReadonlySet<string>
  readonly tpmSockets: ReadonlyMap<string, string>
}

function rewriteAll(original: readonly QemuOption[], tpms: readonly StartTpm[], rewriting: Rewriting): QemuOption[] {
  const parts = takeApart(original, tpms, rewriting)
  const options = original.flatMap((option) => rewriteOne(option, parts, rewriting) ?? [])
  // Last, when it is known what still uses them.
  return options.flatMap((option) =>
    option.name === 'object' ? (rewriteObject(option, options, rewriting) ?? []) : option,
  )
}

function takeApart(original: readonly QemuOption[], tpms: readonly StartTpm[], rewriting: Rewriting): Parts {
  const devices = new Map(
    original.filter(({ name }) => name === 'device').map((option) => [option, readDevice(option)]),
  )
  const deviceOf = new Map(
    [...devices.values()].flatMap((d) =>
      d.id === undefined ? [] : d.drives.map((drive) => [drive, d.id ?? ''] as const),
    ),
  )
  const nodes = new BlockNodes()
  for (const { name, value } of original) if (name === 'blockdev') nodes.add(parseTree(value ?? '', 'driver'))
  const emptied = new Set<string>()
  const gone = new Set<string>()
  const roots = new Set<string>()

  const use = (root: string, device: Device | undefined, firmware: boolean): void => {
    if (!nodes.has(root) || roots.has(root) || gone.has(root) || emptied.has(root)) return
    const fate = nodes.fate(
      root,
      { device: device?.id, firmware, removable: device !== undefined && isRemovable(device) },
      rewriting,
    )
    if (applyFate(nodes, root, fate, rewriting)) roots.add(root)
    else (fate.kind === 'empty' ? emptied : gone).add(root)
  }
  for (const device of devices.values()) for (const drive of device.drives) use(drive, device, false)
  for (const node of firmwareNodes(original)) use(node, undefined, true)

  const drives = new Map(original.filter(isDrive).map((option) => [option, readDrive(option, deviceOf, rewriting)]))
  for (const { id, fate } of drives.values()) if (id !== undefined && fate?.kind === 'gone') gone.add(id)
  return {
    drives,
    devices,
    nodes,
    keptNodes: nodes.reachable(roots),
    emptied,
    gone,
    goneTpms: new Set(
      rewriting.document.tpms.filter(({ id }) => !tpms.some((tpm) => tpm.id === id)).map(({ id }) => id),
    ),
    tpmSockets: new Map(tpms.map(({ chardev, socket }) => [chardev, socket])),
  }
}

function firmwareNodes(original: readonly QemuOption[]): string[] {
  return original
    .filter(({ name }) => name === 'machine' || name === 'M')
    .flatMap(({ value = '' }) => {
      const { tree } = value.startsWith('{') ? parseTree(value, 'type') : { tree: undefined }
      const at = (key: string) => (tree === undefined ? valueOf(parseOptionValue(value), key) : textAt(tree, key))
      return ['pflash0', 'pflash1'].flatMap((key) => at(key) ?? [])
    })
}

/** The option of the restored machine; undefined where it goes. */
function rewriteOne(option: QemuOption, parts: Parts, rewriting: Rewriting): QemuOption | undefined {
  const { name, value = '' } = option
  const drive = parts.drives.get(option)
  if (drive !== undefined) return rewriteDrive(drive, rewriting)
  const device = parts.devices.get(option)
  if (device !== undefined) return rewriteDevice(device, parts, rewriting)
  switch (name) {
    case 'blockdev': {
      const node = textAt(parseTree(value, 'driver').tree, 'node-name') ?? ''
      const kept = parts.nodes.get(node)
      return kept !== undefined && parts.keptNodes.has(node) ? { name, value: formatTree(kept) } : undefined
    }
    case 'chardev':
      return rewriteChardev(option, parts.tpmSockets, rewriting)
    case 'qmp':
    case 'qmp-pretty':
    case 'monitor':
    case 'serial':
    case 'parallel':
    case 'debugcon':
    case 'gdb':
      return rewriteShortChardev(option, rewriting)
    case 'tpmdev':
      return parts.goneTpms.has(idOf(value)) ? undefined : option
    case 'netdev':
      return rewriteNetdev(option, rewriting)
    case 'nic':
      return rewriteNic(option, rewriting)
    case 'net':
      return rewriteNet(option, rewriting)
    case 'vnc':
    case 'spice':
      return rewriteDisplay(option, rewriting)
    case 'usbdevice':
      return keepsUsb(option, rewriting) ? option : undefined
    case 'readconfig':
      checkOptionFile(option, rewriting)
      return option
    case 'set':
      return rewriteSet(option, parts.gone, rewriting)
    case 'global':
      return parts.gone.has(value.split('=').at(-1) ?? '') ? undefined : option
    case 'pidfile':
      rewriting.runPath('qemu.pid')
      rewriting.changed(`the process ID is in run/qemu.pid, in place of ${value}`)
      return { name, value: `${RUN_FOLDER}/qemu.pid` }
    case 'D':
      return { name, value: rewriting.runPath(value) }
    case 'trace': {
      const trace = parseOptionValue(value)
      const file = valueOf(trace, 'file')
      return file === undefined
        ? option
        : { name, value: formatOptionValue(withValue(trace, 'file', rewriting.runPath(file))) }
    }
    case 'mem-path':
      rewriting.changed(`the memory is the machine's own, in place of ${value}`)
      return undefined
    case 'S':
      rewriting.changed('it runs at once (without -S)')
      return undefined
    case 'loadvm':
    case 'incoming':
    case 'add-fd':
    case 'iscsi':
    case 'writeconfig':
      rewriting.changed(`without -${name}, which belongs to how the original was started`)
      return undefined
    case 'fsdev':
    case 'virtfs': {
      const shared = valueOf(parseOptionValue(value), 'path') ?? 'what it shares'
      rewriting.needsOnHost(`${shared}, a folder that the host and the machine share (-${name})`)
      return option
    }
    default:
      tellHostFiles(option, rewriting)
      return option
  }
}

function idOf(value: string): string {
  return textAt(parseTree(value, 'type').tree, 'id') ?? ''
}

/** Disks that were plugged in later are in the point, and on no command line. */
function tellUnused(options: readonly QemuOption[], stores: readonly RestoredStore[], rewriting: Rewriting): void {
  for (const { store, file, format } of stores) {
    if (options.some(({ value = '' }) => value.includes(`${FOLDER}/${file}`))) continue
    rewriting.changed(
      `disk ${store} (${file}, ${format}) is NOT in it: it was plugged in after the start; add it yourself`,
    )
  }
}
