import type { MachineFile } from '../../tracker.js'
import type { BlockDevice } from './block-devices.js'
import { MACHINE_FOLDER, type MachineFirmware } from './document.js'
import { type OpenFile, writtenFile } from './open-images.js'
import { readRegularFile } from './regular-file.js'

const limitBytes = 64 * 1024 ** 2

/** Which of QEMU's drives are flash chips of the firmware, by the slot that the machine says they are in. */
export function firmwareSlot(
  { device, drive, node }: BlockDevice,
  slots: ReadonlyMap<string, string>,
): string | undefined {
  for (const [slot, name] of slots) if (name !== '' && (name === drive || name === node)) return slot
  const chip = /^\/machine\/.*\bflash(\d)$/.exec(device)?.[1]
  return chip === undefined ? undefined : `pflash${chip}`
}

/**
 * Copies the firmware's variables: of the very file that QEMU writes to, by its own descriptor, so that no name or link
 * leads elsewhere. Chips that are only read hold the firmware itself, which is the host's.
 */
export async function copyFirmware(
  slot: string,
  disk: BlockDevice,
  open: readonly OpenFile[],
): Promise<{ firmware: MachineFirmware; files: MachineFile[] }> {
  const [image] = disk.images
  if (image === undefined) throw new RangeError('a disk without an image')
  const { node, drive, format, readOnly } = disk
  const told = { slot, node, drive, format, readOnly, image }
  if (readOnly) return { firmware: { ...told, file: null, problem: null }, files: [] }
  try {
    if (disk.images.length > 1) throw new Error(`${image.filename} has a backing file`)
    if (image.path === null) throw new Error(`${image.filename} is no file of this host`)
    const file = await writtenFile(image.path, open)
    if (file === undefined) throw new Error(`QEMU does not have ${image.path} open for writing`)
    const path = `${MACHINE_FOLDER}/${slot}.${format === 'raw' ? 'fd' : format}`
    const content = await readSettled(file.descriptor)
    return { firmware: { ...told, file: path, problem: null }, files: [{ path, content }] }
  } catch (error) {
    return { firmware: { ...told, file: null, problem: (error as Error).message }, files: [] }
  }
}

/** Reads until two readings agree: the firmware may be writing a variable. */
async function readSettled(path: string): Promise<Buffer> {
  let before = (await readRegularFile(path, { limitBytes, follow: true })).content
  for (let tries = 0; tries < 20; tries += 1) {
    const now = (await readRegularFile(path, { limitBytes, follow: true })).content
    if (now.equals(before)) return now
    before = now
  }
  throw new Error('it is written to all the while')
}
