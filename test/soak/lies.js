import { unitBytes } from './disk.js'

const blockBytes = 65_536
const sectorBytes = 512

/** What a tracker keeps to itself: a write, of one of several kinds. */
export function makeLie(disk, dice) {
  return dice.pick([small, beside, beside, stretch, tail, zeroes])(disk, dice)
}

/** A sector anywhere. */
function small(disk, dice) {
  return { offset: sector(dice.below(disk.sizeBytes - sectorBytes)), bytes: dice.fill(Buffer.alloc(sectorBytes)) }
}

/** Into a digest block of which the same run stores another part. */
function beside(disk, dice) {
  const units = [...disk.dirty]
  if (units.length === 0) return small(disk, dice)
  const block = Math.floor((dice.pick(units) * unitBytes) / blockBytes) * blockBytes
  const places = []
  for (let at = block; at < Math.min(block + blockBytes, disk.sizeBytes - unitBytes); at += unitBytes) {
    if (!disk.dirty.has(at / unitBytes)) places.push(at)
  }
  if (places.length === 0) return small(disk, dice)
  return { offset: dice.pick(places), bytes: dice.fill(Buffer.alloc(sectorBytes)) }
}

/** A whole stretch of the disk, as when a bitmap's page is lost. */
function stretch(disk, dice) {
  const length = Math.floor(disk.sizeBytes / 8 / blockBytes) * blockBytes
  const offset = Math.floor(dice.below(disk.sizeBytes - length) / blockBytes) * blockBytes
  return { offset, bytes: dice.fill(Buffer.alloc(length)) }
}

/** The last sector. */
function tail(disk, dice) {
  return { offset: disk.sizeBytes - sectorBytes, bytes: dice.fill(Buffer.alloc(sectorBytes)) }
}

/** A trim of what may have been data; of whole blocks, or a part of one. */
function zeroes(disk, dice) {
  const length = dice.pick([unitBytes, blockBytes, 4 * blockBytes])
  return { offset: Math.floor(dice.below(disk.sizeBytes - length) / unitBytes) * unitBytes, bytes: Buffer.alloc(length) }
}

function sector(offset) {
  return Math.floor(offset / sectorBytes) * sectorBytes
}
