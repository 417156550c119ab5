import { createHash } from 'node:crypto'
import type { BigIntStats } from 'node:fs'
import { readFile, realpath, stat } from 'node:fs/promises'
import { deviceNumber } from '../../model/device-number.js'

/*
 * A dirty bitmap tells what was written to its own image. What backs the image shows through it, so that another backing
 * file, or one that somebody writes to, changes what the guest reads without a mark in any bitmap. So a change ID holds a
 * fingerprint of all that is below the disk's image: of each layer its format, its path, and
 *
 *   a file           inode, size, and the time of its last write
 *   a block device   size, and how often it was written to since the host was started: its file's time never changes
 *
 * The time of the last change of a file's attributes is not in it: libvirt gives images to another user and back each
 * time a machine starts and ends. A copy of the files, or another start of the host over a block device, looks like a
 * change: it costs one comparison, and is told.
 */

/** One image below a disk's own. */
export interface BackingLayer {
  /** QEMU's name of the format; `raw` for a file or device without one. */
  readonly format: string
  readonly path: string
  /** What leads to the very file that is open, whatever is at `path` by now: /proc/<pid>/fd/<n>. */
  readonly descriptor?: string
}

/** No backing file at all. */
export const NOTHING_BELOW = 'none'
/** Something is below that may change without a trace: it never vouches for anything. */
export const UNKNOWN_BELOW = 'unknown'

/** How long a write may leave a file's time as it was: Linux counts in timer ticks, some file systems in seconds. */
const tickMs = 25
const coarseMs = 2100

/**
 * 16 hex digits, the same as long as nothing below the disk's image is another, or is written to. To be taken before the
 * instant that it goes with: what happens in between then shows the next time.
 * @param layers from the image's backing file downwards
 */
export async function fingerprintChain(layers: readonly BackingLayer[]): Promise<string> {
  if (layers.length === 0) return NOTHING_BELOW
  const hash = createHash('sha256')
  for (const { format, path, descriptor } of layers) {
    const content = await settled(descriptor ?? path)
    if (content === undefined) return UNKNOWN_BELOW
    hash.update(JSON.stringify([format, await realpath(path).catch(() => path), content]))
  }
  return hash.digest('hex').slice(0, 16)
}

/** What a file is by now; undefined when that is not to be known, or when it is written to just now. */
async function settled(path: string): Promise<string | undefined> {
  try {
    for (let tries = 0; tries < 2; tries += 1) {
      const found = await stat(path, { bigint: true })
      if (found.isBlockDevice()) return await deviceState(found)
      if (!found.isFile()) return undefined
      const waitMs = freshForMs(found)
      if (waitMs === 0) return `${found.ino}:${found.size}:${found.mtimeNs}`
      await new Promise((resolve) => setTimeout(resolve, waitMs))
    }
  } catch {
    // Gone, or not ours to look at.
  }
  return undefined
}

/** How long another write could still get the time that the last one has. */
function freshForMs({ mtimeNs }: BigIntStats): number {
  const precisionMs = mtimeNs % 1_000_000_000n === 0n ? coarseMs : tickMs
  const ageMs = Date.now() - Number(mtimeNs / 1_000_000n)
  return Math.abs(ageMs) >= precisionMs ? 0 : precisionMs + Math.max(0, -ageMs)
}

/** Where in the kernel's counters of a block device its writes and discards are: requests, and sectors. */
const countersOfWrites = [4, 6, 11, 13] as const

async function deviceState({ rdev }: BigIntStats): Promise<string> {
  const folder = `/sys/dev/block/${deviceNumber(rdev)}`
  const counters = (await readFile(`${folder}/stat`, 'utf8')).trim().split(/\s+/)
  const sectors = (await readFile(`${folder}/size`, 'utf8')).trim()
  const start = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim()
  return [start, sectors, ...countersOfWrites.map((at) => counters[at] ?? '')].join(':')
}
