import { type FileHandle, open, rename, rm, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { RefpointError } from '../../model/errors.js'
import { WriteBack } from './write-back.js'

/** A file under a temporary name beside its place. */
export interface NewFile {
  readonly handle: FileHandle
  readonly temporary: string
  /** Tells that so many more bytes were written to it; never waits. */
  written(bytes: number): void
  /** Makes its content durable and gives it its name. */
  publish(): Promise<void>
  /** Removes it, unless it has its name; safe to call twice, and after `publish`. */
  discard(): Promise<void>
}

export interface NewFileOptions {
  /** Replace a file of that name. */
  readonly force: boolean
  /** Tells this run's files from another's. */
  readonly attempt: string
}

/** @throws RefpointError `usage` when there is a file of that name and not `force`. */
export async function createNewFile(path: string, { force, attempt }: NewFileOptions): Promise<NewFile> {
  const existing = await stat(path).catch(() => undefined)
  if (existing !== undefined && !force) {
    throw new RefpointError('usage', `${path} exists; nothing was restored`, {
      hint: 'Restore into another folder, or say --force to replace it.',
      fields: { path },
    })
  }
  if (existing !== undefined && !existing.isFile()) {
    throw new RefpointError('usage', `${path} is not a file and can't be replaced by one`, {
      hint: 'To write onto a device, say --write-to.',
    })
  }
  const temporary = `${path}.partial-${attempt}`
  const handle = await open(temporary, 'wx+', 0o600)
  const writeBack = new WriteBack(handle)
  return {
    handle,
    temporary,
    written: (bytes) => writeBack.written(bytes),
    async publish() {
      await writeBack.finish()
      await handle.close()
      await rename(temporary, path)
      await syncFolder(dirname(path))
    },
    async discard() {
      await writeBack.settle()
      await handle.close().catch(() => {})
      await rm(temporary, { force: true })
    },
  }
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}
