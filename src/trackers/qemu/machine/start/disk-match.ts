import { isAbsolute, resolve } from 'node:path'
import type { MachineDisk, MachineDocument, MachineFirmware } from '../document.js'
import type { RestoredStore, Rewriting } from './rewriting.js'

/** What a disk of the command line becomes. */
export type Fate =
  | { readonly kind: 'store'; readonly restored: RestoredStore; readonly was: string }
  /** A copy of the firmware's variables, below the folder. */
  | { readonly kind: 'copy'; readonly file: string; readonly format: string; readonly was: string }
  /** Stays: a file of the host that is only read. */
  | { readonly kind: 'host'; readonly was: string }
  /** Stays, with no medium in it. */
  | { readonly kind: 'empty'; readonly was: string }
  /** Not in the point: must not be touched. */
  | { readonly kind: 'gone'; readonly was: string }

/** What the command line says of a disk. */
export interface NamedDisk {
  /** The device's id in the guest, as far as it has one. */
  readonly device: string | undefined
  /** Id of its `-drive`, or name of its node. */
  readonly drive: string | undefined
  readonly file: string | undefined
  readonly readOnly: boolean
  readonly removable: boolean
}

/** The disk of QEMU's own list that the command line means: by device, by drive or node, and by its file last. */
export function findDisk(document: MachineDocument, named: NamedDisk): MachineDisk | undefined {
  const { disks } = document
  return (
    one(disks.filter(({ device }) => named.device !== undefined && isDevice(device, named.device))) ??
    one(disks.filter(({ drive, node }) => named.drive !== undefined && [drive, node].includes(named.drive))) ??
    one(disks.filter(({ images }) => images.some((image) => isFile(document, image, named.file))))
  )
}

export function findFirmware(document: MachineDocument, named: NamedDisk): MachineFirmware | undefined {
  const { firmware } = document
  return (
    one(firmware.filter(({ drive, node }) => named.drive !== undefined && [drive, node].includes(named.drive))) ??
    one(firmware.filter(({ image }) => isFile(document, image, named.file)))
  )
}

export function fateOfDisk(rewriting: Rewriting, named: NamedDisk): Fate {
  const disk = findDisk(rewriting.document, named)
  const was = named.file ?? disk?.images[0]?.filename ?? named.drive ?? named.device ?? 'a disk'
  if (disk === undefined) {
    if (named.removable) return { kind: 'empty', was }
    return { kind: named.readOnly ? 'host' : 'gone', was }
  }
  const restored = rewriting.restored(disk.store)
  if (restored !== undefined) return { kind: 'store', restored, was: disk.images[0]?.filename ?? was }
  if (disk.removable || named.removable) return { kind: 'empty', was }
  return { kind: named.readOnly ? 'host' : 'gone', was }
}

export function fateOfFirmware(rewriting: Rewriting, named: NamedDisk): Fate {
  const firmware = findFirmware(rewriting.document, named)
  const was = named.file ?? firmware?.image.filename ?? named.drive ?? 'firmware'
  if (firmware?.file != null) return { kind: 'copy', file: firmware.file, format: firmware.format, was }
  if (named.readOnly || firmware?.readOnly === true) return { kind: 'host', was }
  rewriting.refuse(
    `the firmware's variables (${was}) are not in the point: ${firmware?.problem ?? 'QEMU did not name them'}`,
  )
  return { kind: 'gone', was }
}

function one<T>(found: readonly T[]): T | undefined {
  return found.length === 1 ? found[0] : undefined
}

/** A device with an id is told as that, or as the path of what is in it: `/machine/peripheral/<id>/virtio-backend`. */
function isDevice(told: string, id: string): boolean {
  return told === id || told === `/machine/peripheral/${id}` || told.startsWith(`/machine/peripheral/${id}/`)
}

function isFile(
  { process }: MachineDocument,
  image: { readonly filename: string; readonly path: string | null },
  file: string | undefined,
): boolean {
  if (file === undefined) return false
  if (image.filename === file) return true
  const absolute = isAbsolute(file) ? file : resolve(process?.workingDirectory ?? '/', file)
  return image.path === absolute || image.filename === absolute
}
