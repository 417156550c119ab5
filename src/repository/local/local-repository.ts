import { lstat, statfs } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import type { Files } from '../../files/files.js'
import { nodeFiles } from '../../files/node-files.js'
import type { ObjectLocation } from '../../model/location.js'
import { checkName, checkPrefix } from '../names.js'
import type { ByteStream, ObjectInfo, PruneRepository, RepositoryRoom } from '../repository.js'
import { claimFile } from './claim-file.js'
import { Folders, symbolicLink } from './folders.js'
import { readSmallFile } from './read-small-file.js'
import { isMissing, storageError } from './storage-error.js'
import { sweepTemporaries } from './sweep.js'
import { createTemporary, discardTemporary, forgetTemporary, isTemporary } from './temporary-file.js'
import { listFolder, walkFiles } from './walk.js'
import { writeStream } from './write-stream.js'

export interface LocalRepositoryOptions {
  /** Whether the first write makes the folder where it is missing; else that is an error (a disk not mounted). */
  readonly create?: boolean
  readonly files?: Files
}

/** A repository in a folder of a mounted file system: an object is a file, its name the path below the folder. */
export function localRepository(folder: string, options: LocalRepositoryOptions = {}): PruneRepository {
  return new LocalRepository(resolve(folder), options.files ?? nodeFiles, options.create ?? false)
}

class LocalRepository implements PruneRepository {
  readonly description: string
  readonly #root: string
  readonly #files: Files
  readonly #folders: Folders

  constructor(root: string, files: Files, createRoot: boolean) {
    this.description = root
    this.#root = root
    this.#files = files
    this.#folders = new Folders(root, files, createRoot)
  }

  async read(name: string, limitBytes: number): Promise<Uint8Array | undefined> {
    return await this.#reading(name, (path) => readSmallFile(path, limitBytes))
  }

  async locate(name: string): Promise<ObjectLocation | undefined> {
    return await this.#reading(name, async (path) => {
      const stats = await lstat(path)
      if (stats.isSymbolicLink()) throw symbolicLink(path)
      return stats.isFile() ? { kind: 'file', path, bytes: stats.size } : undefined
    })
  }

  async stat(name: string): Promise<ObjectInfo | undefined> {
    const location = await this.locate(name)
    return location === undefined ? undefined : { name, bytes: location.bytes }
  }

  async *list(prefix: string): AsyncIterable<ObjectInfo> {
    const folder = await this.#folder(prefix)
    if (folder === undefined) return
    for await (const name of walkFiles(folder, prefix)) {
      const info = await this.stat(name)
      if (info !== undefined) yield info
    }
  }

  async children(prefix: string): Promise<readonly string[]> {
    const folder = await this.#folder(prefix)
    if (folder === undefined) return []
    const entries = await listFolder(folder)
    return entries.map((entry) => entry.name).filter((name) => !isTemporary(name)).sort()
  }

  async room(): Promise<RepositoryRoom> {
    return await doing('look at', this.#root, async () => {
      const { bavail, blocks, bsize } = await statfs(this.#root)
      return { freeBytes: bavail * bsize, sizeBytes: blocks * bsize }
    })
  }

  async put(name: string, content: ByteStream, options: { readonly signal?: AbortSignal } = {}): Promise<ObjectInfo> {
    const { signal } = options
    const { folders, path } = this.#place(name)
    signal?.throwIfAborted()
    const temporary = await doing('create', path, async () =>
      createTemporary(this.#files, await this.#folders.ensure(folders)),
    )
    let bytes: number
    try {
      bytes = await writeStream(temporary, content, signal)
      signal?.throwIfAborted()
      await doing('write', path, async () => {
        await temporary.close()
        await this.#files.rename(temporary.path, path)
      })
    } catch (error) {
      await discardTemporary(this.#files, temporary)
      throw error
    }
    forgetTemporary(temporary.path)
    await doing('write', path, () => this.#files.syncFolder(dirname(path)))
    return { name, bytes }
  }

  async claim(name: string, bytes: Uint8Array): Promise<'created' | 'exists'> {
    const { folders, leaf, path } = this.#place(name)
    return await doing('create', path, async () =>
      claimFile(this.#files, await this.#folders.ensure(folders), leaf, bytes),
    )
  }

  async sweep(prefix: string): Promise<number> {
    const folder = await this.#folder(prefix)
    return folder === undefined ? 0 : await doing('clean', folder, () => sweepTemporaries(this.#files, folder))
  }

  async remove(names: readonly string[]): Promise<void> {
    let synced: string | undefined
    const sync = async (folder: string): Promise<void> =>
      doing('remove', folder, () => this.#files.syncFolder(folder).catch(unlessMissing))
    try {
      for (const { folders, path } of names.map((name) => this.#place(name))) {
        const folder = await doing('remove', path, () => this.#folders.find(folders))
        if (folder === undefined) continue
        // What was removed in another folder must be durable before this is: once for each folder, not for each name.
        if (synced !== undefined && synced !== folder) await sync(synced)
        synced = folder
        await doing('remove', path, () => this.#files.unlink(path).catch(unlessMissing))
      }
    } finally {
      if (synced !== undefined) await sync(synced)
    }
  }

  #place(name: string): { readonly folders: readonly string[]; readonly leaf: string; readonly path: string } {
    checkName(name)
    const folders = name.split('/')
    const leaf = folders.pop() ?? ''
    return { folders, leaf, path: join(this.#root, name) }
  }

  async #folder(prefix: string): Promise<string | undefined> {
    checkPrefix(prefix)
    return await doing('read', join(this.#root, prefix), () =>
      this.#folders.find(prefix === '' ? [] : prefix.split('/')),
    )
  }

  /** Reads an object; undefined where it, or a folder on the way to it, is missing. */
  async #reading<T>(name: string, read: (path: string) => Promise<T | undefined>): Promise<T | undefined> {
    const { folders, path } = this.#place(name)
    return await doing('read', path, async () => {
      if ((await this.#folders.find(folders)) === undefined) return undefined
      return await read(path).catch(unlessMissing)
    })
  }
}

function unlessMissing(error: unknown): undefined {
  if (!isMissing(error)) throw error
}

async function doing<T>(what: string, path: string, operation: () => Promise<T>): Promise<T> {
  try {
    return await operation()
  } catch (error) {
    throw storageError(what, path, error)
  }
}
