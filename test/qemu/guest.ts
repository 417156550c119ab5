import { open, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import type { QemuProcess } from './qemu-process.js'

const bootSector = join(import.meta.dirname, 'guest/boot.bin')
/** The guest writes up to here; a disk of it must not be smaller. */
export const guestBytes = 18 * 1024 * 1024
const pauseAt = 508
const magic = Buffer.from('RPG1')

/** Puts the guest of `guest/boot.S` on a disk image. `pauseTicks`: timer ticks of 55 ms between two of its turns. */
export async function installGuest(path: string, format: 'qcow2' | 'raw', { pauseTicks = 1 } = {}): Promise<void> {
  const sector = await readFile(bootSector)
  sector[pauseAt] = pauseTicks
  if (format === 'raw') {
    const file = await open(path, 'r+')
    await file.write(sector, 0, sector.length, 0)
    await file.close()
    return
  }
  const source = `${path}.boot`
  const file = await open(source, 'w')
  await file.write(sector)
  await file.close()
  await execa('qemu-io', ['-f', format, '-c', `write -s ${source} 0 ${sector.length}`, path])
}

/** The turn that a running guest is at, as its memory has it. */
export async function turnNow(machine: QemuProcess): Promise<number> {
  return await guestWord(machine, 0x7e10)
}

/** A 32-bit word of the guest's memory, at an address of `guest/boot.S`. */
export async function guestWord(machine: QemuProcess, address: number): Promise<number> {
  const printed = await machine.hmp(`xp /1wx ${address}`)
  const word = /: 0x([0-9a-f]{8})/.exec(printed)?.[1]
  if (word === undefined) throw new Error(`no word of the guest's memory: ${printed}`)
  return Number.parseInt(word, 16)
}

/** Waits until a running guest has done so many more turns. */
export async function untilTurns(machine: QemuProcess, more: number): Promise<void> {
  const wanted = (await turnNow(machine)) + more
  while ((await turnNow(machine)) < wanted) await new Promise((resolve) => setTimeout(resolve, 20))
}

/**
 * The turn that a raw image of a guest's disk shows, after checking that the disk is one instant: each place holds the
 * newest turn that wrote it, up to that of LBA 1, which was written before it.
 * @throws when a sector says of itself that it belongs elsewhere, or is not what the guest last wrote there
 */
export async function guestTurn(rawPath: string, disk: 0 | 1): Promise<number> {
  const image = await readFile(rawPath)
  const newest = sectorAt(image, 1, disk)
  if (newest === undefined) throw new Error(`${rawPath}: the guest never ran`)
  const last = new Map<number, number>()
  for (let n = 1; n <= newest; n += 1) last.set(placeOf(n), n)
  // The last write may be under way: LBA 1 goes first.
  const open = placeOf(newest)
  for (let place = 0; place < 4096; place += 1) {
    const found = sectorAt(image, 2048 + place * 8, disk)
    const expected = last.get(place)
    if (found === expected || place === open) continue
    throw new Error(`${rawPath}: place ${place} holds turn ${found}, not ${expected}, at turn ${newest}`)
  }
  return newest
}

function sectorAt(image: Buffer, lba: number, disk: 0 | 1): number | undefined {
  const sector = image.subarray(lba * 512, lba * 512 + 512)
  if (sector.every((byte) => byte === 0)) return undefined
  const n = sector.readUInt32LE(4)
  const good =
    sector.subarray(0, 4).equals(magic) && sector.readUInt32LE(8) === lba && sector.readUInt32LE(12) === 0x80 + disk
  if (!good) throw new Error(`LBA ${lba} of disk ${disk} holds what belongs elsewhere: ${sector.toString('hex', 0, 16)}`)
  for (let at = 16; at < 512; at += 4) {
    if (sector.readUInt32LE(at) !== n) throw new Error(`LBA ${lba} of disk ${disk} is torn`)
  }
  return n
}

function placeOf(n: number): number {
  return Math.imul(n, 0x9e3779b1) >>> 20
}
