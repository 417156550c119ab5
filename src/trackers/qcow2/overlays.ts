import { closeSync, constants, type Dirent, lstatSync, openSync, readdirSync, realpathSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { readQcow2Header } from './qcow2-header.js'

/** An image that has another one as its backing file. */
export interface Overlay {
  readonly path: string
  readonly below: string
}

export interface FoundOverlays {
  readonly overlays: readonly Overlay[]
  /** Whether there was more than is looked through. */
  readonly limited: boolean
}

/** So many files and folders are looked at, nearest first. */
const mostEntries = 5000
/** Folders below that of an image, and below the one above it. */
const depthBelow = 3
const depthBeside = 1

/**
 * Images around `paths` that have one of these as their backing file: whoever took an external snapshot of a machine has
 * made it run on such a one since, and what is below tells nothing of what it wrote. Looks into the folders of `paths`
 * and of `others` (more images of the machine), below them, and beside them; on their file systems only. An overlay that
 * lies elsewhere is not found: nothing in an image tells what is over it.
 * @param paths absolute, without links
 */
export function findOverlays(
  paths: readonly string[],
  others: readonly string[],
  { limit = mostEntries } = {},
): FoundOverlays {
  const wanted = new Set(paths)
  const overlays: Overlay[] = []
  let seen = 0
  for (const { path } of walk(startsOf([...paths, ...others]))) {
    seen += 1
    if (seen > limit) return { overlays, limited: true }
    const below = backingOf(path)
    if (below !== undefined && wanted.has(below) && !wanted.has(path)) overlays.push({ path, below })
  }
  return { overlays, limited: false }
}

interface Place {
  readonly folder: string
  readonly depth: number
}

function startsOf(images: readonly string[]): Place[] {
  const folders = [...new Set(images.map((path) => dirname(path)))]
  const beside = [...new Set(folders.map((folder) => dirname(folder)))].filter((folder) => dirname(folder) !== folder)
  return [
    ...folders.map((folder) => ({ folder, depth: depthBelow })),
    ...beside.map((folder) => ({ folder, depth: depthBeside })),
  ]
}

/** Files, and links that may lead to some; breadth first, each folder once, not into other file systems. */
function* walk(starts: readonly Place[]): Generator<{ readonly path: string }> {
  const done = new Map<string, number>()
  const queue = [...starts]
  for (let place = queue.shift(); place !== undefined; place = queue.shift()) {
    const { folder, depth } = place
    const before = done.get(folder)
    if (before !== undefined && before >= depth) continue
    done.set(folder, depth)
    const device = deviceOf(folder)
    for (const entry of entries(folder)) {
      const path = join(folder, entry.name)
      if (entry.isDirectory()) {
        if (depth > 0 && deviceOf(path) === device) queue.push({ folder: path, depth: depth - 1 })
      } else if (before === undefined && (entry.isFile() || entry.isSymbolicLink())) yield { path }
    }
  }
}

function backingOf(path: string): string | undefined {
  let fd: number | undefined
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
    const backing = readQcow2Header(fd)?.backing
    return backing === undefined ? undefined : realpathSync(resolve(dirname(path), backing.name))
  } catch {
    return undefined
  } finally {
    if (fd !== undefined) closeSync(fd)
  }
}

function deviceOf(path: string): number | undefined {
  try {
    return lstatSync(path).dev
  } catch {
    return undefined
  }
}

function entries(folder: string): Dirent[] {
  try {
    return readdirSync(folder, { withFileTypes: true })
  } catch {
    return []
  }
}
