import { closeSync, constants, openSync, readdirSync, realpathSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { readQcow2Header } from './qcow2-header.js'

/** Folders of more files than that are not looked through. */
const mostFiles = 2000

/**
 * Images beside `path` that have it as their backing file: whoever took an external snapshot of a machine has made it
 * run on such a one since, and what is below tells nothing of what it wrote.
 */
export function overlaysOf(path: string): string[] {
  const folder = dirname(path)
  const names = entries(folder)
  if (names.length > mostFiles) return []
  return names.map((name) => join(folder, name)).filter((other) => other !== path && backingOf(other) === real(path))
}

function backingOf(path: string): string | undefined {
  let fd: number | undefined
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
    const backing = readQcow2Header(fd)?.backing
    return backing === undefined ? undefined : real(resolve(dirname(path), backing.name))
  } catch {
    return undefined
  } finally {
    if (fd !== undefined) closeSync(fd)
  }
}

function real(path: string): string | undefined {
  try {
    return realpathSync(path)
  } catch {
    return undefined
  }
}

/** Names of files that are regular, or links that may lead to some. */
function entries(folder: string): string[] {
  try {
    return readdirSync(folder, { withFileTypes: true })
      .filter((entry) => entry.isFile() || entry.isSymbolicLink())
      .map(({ name }) => name)
  } catch {
    return []
  }
}
