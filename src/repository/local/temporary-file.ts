import { randomBytes } from 'node:crypto'
import { lstat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import type { FileHandle, Files } from '../../files/files.js'
import { currentProcess, processState } from '../process-identity.js'
import { isMissing } from './storage-error.js'

/** Of a writer on another host (or before a reboot) only the silence tells that it is gone. */
const silenceMs = 60 * 60 * 1000
const pattern = /^\.tmp-(?<realm>[0-9a-f]{16})-(?<pid>\d+)-(?<start>\d+)-(?<thread>[0-9a-f]{8})-[0-9a-f]{12}$/
/** Every thread loads this module anew: one must not take another's file for a dead writer's. */
const thread = randomBytes(4).toString('hex')
/** Files that this thread is writing at this moment. */
const writing = new Set<string>()

/** A file that becomes an object when it is whole; its name says who writes it. */
export async function createTemporary(files: Files, folder: string): Promise<FileHandle> {
  const { realm, pid, start } = currentProcess()
  const path = join(folder, `.tmp-${realm}-${pid}-${start}-${thread}-${randomBytes(6).toString('hex')}`)
  writing.add(path)
  try {
    return await files.open(path, 'create')
  } catch (error) {
    writing.delete(path)
    throw error
  }
}

export function isTemporary(name: string): boolean {
  return name.startsWith('.tmp-')
}

/** Says that nobody writes the file any more; after it was renamed, or instead of `discardTemporary`. */
export function forgetTemporary(path: string): void {
  writing.delete(path)
}

/** Closes and removes it, as far as that works: what stays is swept later. Nothing here hides the first error. */
export async function discardTemporary(files: Files, handle: FileHandle): Promise<void> {
  await handle.close().catch(() => undefined)
  await files.unlink(handle.path).catch(() => undefined)
  forgetTemporary(handle.path)
}

/** Whether whoever wrote this temporary file is gone. `nowMs` is the file system's own clock. */
export async function isAbandoned(path: string, nowMs: number): Promise<boolean> {
  if (writing.has(path)) return false
  const self = currentProcess()
  const groups = pattern.exec(basename(path))?.groups
  const { realm = '', pid = '', start = '' } = groups ?? {}
  if (groups?.['thread'] === thread) return true
  const state = processState({ host: '', realm, pid: Number(pid), start }, self)
  if (state !== 'unknown') return state === 'gone'
  try {
    return nowMs - (await lstat(path)).mtimeMs > silenceMs
  } catch (error) {
    if (isMissing(error)) return false
    throw error
  }
}
