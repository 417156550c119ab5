import { fateOfDisk, fateOfFirmware, type Fate, type NamedDisk } from './disk-match.js'
import type { QemuOption } from './command-line.js'
import {
  isOn,
  type OptionPart,
  parseOptionValue,
  formatOptionValue,
  valueOf,
  without,
  withValue,
} from './option-value.js'
import { FOLDER, type Rewriting } from './rewriting.js'

/** Short forms of `-drive`, and what each stands for. */
const short: Readonly<Record<string, readonly OptionPart[]>> = {
  image: indexed('0'),
  hda: indexed('0'),
  hdb: indexed('1'),
  hdc: indexed('2'),
  hdd: indexed('3'),
  cdrom: [
    { key: 'index', value: '2' },
    { key: 'media', value: 'cdrom' },
  ],
  fda: [
    { key: 'if', value: 'floppy' },
    { key: 'index', value: '0' },
  ],
  fdb: [
    { key: 'if', value: 'floppy' },
    { key: 'index', value: '1' },
  ],
  sd: [{ key: 'if', value: 'sd' }],
  mtdblock: [{ key: 'if', value: 'mtd' }],
  pflash: [{ key: 'if', value: 'pflash' }],
}

function indexed(index: string): OptionPart[] {
  return [
    { key: 'index', value: index },
    { key: 'media', value: 'disk' },
  ]
}

export function isDrive({ name }: QemuOption): boolean {
  return name === 'drive' || name in short
}

/** What is said of the guest's device and of how it is used stays; what is said of the image goes with the image. */
const kept = new RegExp(
  `^(${[
    'if|id|index|bus|unit|media|addr|serial|cyls|heads|secs|trans|group|snapshot|node-name|locking|werror|rerror',
    'cache(\\..*)?|aio|discard|detect-zeroes|readonly|read-only|copy-on-read|stats-.*|throttling\\..*|(bps|iops)(_.*)?',
  ].join('|')})$`,
)

export interface Drive {
  readonly parts: readonly OptionPart[]
  readonly id: string | undefined
  readonly fate: Fate | undefined
}

/**
 * What a `-drive`, or a short form of it, is and becomes. `devices` tells the guest's device of a drive's id. Nothing
 * (undefined) happens to a drive that is empty as it stands.
 */
export function readDrive(option: QemuOption, devices: ReadonlyMap<string, string>, rewriting: Rewriting): Drive {
  const parts: readonly OptionPart[] =
    option.name === 'drive'
      ? parseOptionValue(option.value ?? '')
      : [{ key: 'file', value: option.value ?? '' }, ...(short[option.name] ?? [])]
  const id = valueOf(parts, 'id')
  const file = valueOf(parts, 'file') ?? valueOf(parts, 'file.filename')
  const isEmpty = file === undefined && !parts.some((part) => 'key' in part && /^(file|driver)\b/.test(part.key))
  if (isEmpty || file === '') return { parts, id, fate: undefined }
  const kind = valueOf(parts, 'if')
  const named: NamedDisk = {
    device: id === undefined ? undefined : devices.get(id),
    drive: id,
    file,
    readOnly: isOn(parts, 'readonly') || isOn(parts, 'read-only'),
    removable: valueOf(parts, 'media') === 'cdrom' || kind === 'floppy' || kind === 'sd',
  }
  return { parts, id, fate: kind === 'pflash' ? fateOfFirmware(rewriting, named) : fateOfDisk(rewriting, named) }
}

/** The option for the restored machine; undefined where it goes. */
export function rewriteDrive({ parts, id, fate }: Drive, rewriting: Rewriting): QemuOption | undefined {
  const name = id === undefined ? '' : ` (drive ${id})`
  switch (fate?.kind) {
    case undefined:
      return drive(parts)
    case 'host':
      rewriting.needsOnHost(`${fate.was}${name}, which is only read`)
      return drive(parts)
    case 'gone':
      rewriting.changed(`without the disk ${fate.was}${name}, which is not in this point`)
      return undefined
    case 'empty':
      rewriting.changed(`no medium in the drive${name} that had ${fate.was}`)
      return drive(without(parts, (key) => !kept.test(key)))
    case 'store': {
      const { store, file, format } = fate.restored
      rewriting.changed(`disk ${store} is ${file} (${format}), in place of ${fate.was}`)
      tellDropped(parts, store, rewriting)
      return drive(withImage(parts, `${FOLDER}/${file}`, format))
    }
    case 'copy':
      rewriting.changed(`the firmware's variables are ${fate.file}, in place of ${fate.was}`)
      return drive(withImage(parts, `${FOLDER}/config/${fate.file}`, fate.format))
  }
}

function drive(parts: readonly OptionPart[]): QemuOption {
  return { name: 'drive', value: formatOptionValue(parts) }
}

function withImage(parts: readonly OptionPart[], path: string, format: string): OptionPart[] {
  return [
    { key: 'file', value: path },
    ...withValue(
      without(parts, (key) => !kept.test(key)),
      'format',
      format,
    ),
  ]
}

/** Only names: a value may be a secret. */
function tellDropped(parts: readonly OptionPart[], store: string, rewriting: Rewriting): void {
  const keys = parts.flatMap((part) => ('key' in part ? [part.key] : [part.word]))
  const dropped = keys.filter(
    (key) => !kept.test(key) && !/^(file|format|driver|file\.filename|file\.driver)$/.test(key),
  )
  if (dropped.length > 0) rewriting.changed(`disk ${store} without what was said of its image: ${dropped.join(', ')}`)
}
