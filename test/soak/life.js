import { unitBytes } from './disk.js'

const kib = 1024

/** What an hour of a machine's life does to its disks: a hot set, a log that grows, trims, now and then a large file. */
export function liveAnHour([root, data], dice, hour) {
  const busy = hour % 24 >= 7 && hour % 24 < 20
  database(data, dice, busy ? 24 : 4)
  if (busy) append(root, dice, 16 * kib)
  if (dice.chance(0.05)) largeFile(root, dice)
  if (dice.chance(0.04)) trim(root, dice)
  if (dice.chance(0.002)) grow(data, dice)
}

/** Random writes of 4 to 16 KiB, most of them into a tenth of the disk. */
function database(disk, dice, count) {
  const hot = Math.floor(disk.sizeBytes / 10)
  for (let n = 0; n < count; n += 1) {
    const length = dice.pick([4, 8, 16]) * kib
    const limit = dice.chance(0.9) ? hot : disk.sizeBytes - length
    const offset = Math.floor(dice.below(Math.max(1, limit)) / 512) * 512
    disk.write(Math.min(offset, disk.sizeBytes - length), dice.fill(Buffer.alloc(length)))
  }
}

/** A log in the second half of the disk, round and round. */
function append(disk, dice, length) {
  const half = Math.floor(disk.sizeBytes / 2 / unitBytes) * unitBytes
  disk.logAt = ((disk.logAt ?? 0) + length) % (half - length)
  disk.write(half + Math.floor(disk.logAt / 512) * 512, dice.fill(Buffer.alloc(length)))
}

function largeFile(disk, dice) {
  const length = (4 + dice.below(28)) * 16 * kib
  const offset = Math.floor(dice.below(disk.sizeBytes / 2 - length) / unitBytes) * unitBytes
  disk.write(offset, dice.fill(Buffer.alloc(length)))
}

function trim(disk, dice) {
  const length = (1 + dice.below(32)) * 16 * kib
  disk.zero(Math.floor(dice.below(disk.sizeBytes / 2 - length) / unitBytes) * unitBytes, length)
}

function grow(disk, dice) {
  if (disk.sizeBytes < disk.largestBytes) disk.resize(disk.sizeBytes + (1 + dice.below(64)) * 4 * kib)
}
