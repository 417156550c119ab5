import { lstatSync, readdirSync, readFileSync } from 'node:fs'
import { join, relative, resolve, sep } from 'node:path'
import type { FileHandle, Files } from '../src/files/files.js'
import { nodeFiles } from '../src/files/node-files.js'

/*
 * Records what is done to the files below one folder, so that `crash-states.ts` can build every state of the disk that
 * is legal after a power cut:
 *
 *   const recording = recordFiles(folder)
 *   const repository = localRepository(folder, { files: recording.files })
 *   const before = recording.now()
 *   await repository.claim('a', bytes)
 *   for (const state of crashStates(recording, { seed, from: before })) {
 *     const into = temporaryFolder()
 *     materialise(recording, state, into)      // `folder` as a crash at that moment may have left it
 *     … look at `into` …
 *   }
 *
 * What was in the folder when the recording began counts as durable. The real files are written too, but nothing is
 * really synced. Time is counted in events; every call has one event when it begins and one when it ends.
 */

export interface Recording {
  readonly files: Files
  readonly root: string
  readonly base: readonly BaseEntry[]
  readonly log: readonly Operation[]
  /** The events so far; a crash "at" this moment happens after them and before all later ones. */
  now(): number
}

/** What was there before, parents before their children. `node` numbers a file or folder whatever its names are. */
export interface BaseEntry {
  readonly folder: number
  readonly name: string
  readonly node: number
  readonly content: Uint8Array | 'folder'
}

/** The root folder's number. */
export const rootNode = 0

export type Change =
  | { readonly type: 'write'; readonly node: number; readonly offset: number; readonly bytes: Uint8Array }
  | { readonly type: 'zero'; readonly node: number; readonly offset: number; readonly length: number }
  | { readonly type: 'truncate'; readonly node: number; readonly size: number }
  | { readonly type: 'sync'; readonly node: number }
  | { readonly type: 'sync-folder'; readonly node: number }
  /** A name appears (`add`), disappears (`remove`), or both at once (a rename). */
  | {
      readonly type: 'names'
      readonly add?: NameOf
      readonly remove?: Omit<NameOf, 'node'>
      readonly made?: 'file' | 'folder'
    }

export interface NameOf {
  readonly folder: number
  readonly name: string
  readonly node: number
}

export interface Operation {
  readonly begun: number
  /** Infinity while it runs: it may have happened, wholly or in part. */
  ended: number
  readonly change: Change
}

export function recordFiles(folder: string): Recording {
  return new Recorder(resolve(folder))
}

class Recorder implements Recording {
  readonly root: string
  readonly base: BaseEntry[] = []
  readonly log: Operation[] = []
  readonly files: Files
  #events = 0
  #nodes = rootNode + 1
  /** The names as they are now: folder number to name to node. */
  readonly #names = new Map<number, Map<string, number>>([[rootNode, new Map()]])

  constructor(root: string) {
    this.root = root
    this.#readBase(root, rootNode)
    this.files = {
      ...nodeFiles,
      open: (path, mode) => this.#open(path, mode),
      makeFolder: (path) => this.#make(path, 'folder', () => nodeFiles.makeFolder(path)),
      removeFolder: (path) => this.#removeName(path, () => nodeFiles.removeFolder(path)),
      unlink: (path) => this.#removeName(path, () => nodeFiles.unlink(path)),
      rename: (from, to) => this.#move(from, to, true, () => nodeFiles.rename(from, to)),
      link: (from, to) => this.#move(from, to, false, () => nodeFiles.link(from, to)),
      syncFolder: async (path) => {
        const node = this.#node(path)
        if (node === undefined) await nodeFiles.syncFolder(path)
        else await this.during({ type: 'sync-folder', node }, async () => undefined)
      },
    }
  }

  now(): number {
    return this.#events
  }

  /** Does something, and notes when it began and ended. What failed with an error did not happen. */
  async during<T>(change: Change, action: () => Promise<T>): Promise<T> {
    this.#events += 1
    const operation: Operation = { begun: this.#events, ended: Infinity, change }
    this.log.push(operation)
    try {
      const result = await action()
      this.#events += 1
      operation.ended = this.#events
      return result
    } catch (error) {
      this.log.splice(this.log.indexOf(operation), 1)
      throw error
    }
  }

  async #open(path: string, mode: 'create' | 'write' | 'read'): Promise<FileHandle> {
    const open = (): Promise<FileHandle> => nodeFiles.open(path, mode)
    const handle = mode === 'create' ? await this.#make(path, 'file', open) : await open()
    const node = this.#node(path)
    return node === undefined ? handle : new RecordedHandle(handle, node, this)
  }

  async #make<T>(path: string, made: 'file' | 'folder', action: () => Promise<T>): Promise<T> {
    const place = this.#place(path)
    if (place === undefined) return await action()
    const node = this.#nodes
    this.#nodes += 1
    const result = await this.during({ type: 'names', add: { ...place, node }, made }, action)
    if (made === 'folder') this.#names.set(node, new Map())
    this.#names.get(place.folder)?.set(place.name, node)
    return result
  }

  async #removeName(path: string, action: () => Promise<void>): Promise<void> {
    const place = this.#place(path)
    if (place === undefined) return await action()
    await this.during({ type: 'names', remove: place }, action)
    this.#names.get(place.folder)?.delete(place.name)
  }

  async #move(from: string, to: string, away: boolean, action: () => Promise<void>): Promise<void> {
    const source = this.#place(from)
    const target = this.#place(to)
    const node = this.#node(from)
    if (source === undefined || target === undefined || node === undefined) return await action()
    const add = { ...target, node }
    await this.during(away ? { type: 'names', add, remove: source } : { type: 'names', add }, action)
    if (away) this.#names.get(source.folder)?.delete(source.name)
    this.#names.get(target.folder)?.set(target.name, node)
  }

  /** The node at a path; undefined outside the recorded folder, and where nothing is. */
  #node(path: string): number | undefined {
    const way = relative(this.root, resolve(path))
    if (way === '') return rootNode
    return way.split(sep).reduce<number | undefined>(
      (node, name) => (node === undefined ? undefined : this.#names.get(node)?.get(name)),
      rootNode,
    )
  }

  #place(path: string): { folder: number; name: string } | undefined {
    const folder = this.#node(join(path, '..'))
    const name = resolve(path).split(sep).at(-1)
    return folder === undefined || name === undefined ? undefined : { folder, name }
  }

  #readBase(path: string, folder: number): void {
    for (const name of readdirSync(path).sort()) {
      const stats = lstatSync(join(path, name))
      if (!stats.isFile() && !stats.isDirectory()) continue
      const node = this.#nodes
      this.#nodes += 1
      const content = stats.isFile() ? readFileSync(join(path, name)) : 'folder'
      this.base.push({ folder, name, node, content })
      this.#names.get(folder)?.set(name, node)
      if (content !== 'folder') continue
      this.#names.set(node, new Map())
      this.#readBase(join(path, name), node)
    }
  }
}

class RecordedHandle implements FileHandle {
  readonly path: string
  readonly fd: number
  readonly #handle: FileHandle
  readonly #node: number
  readonly #recorder: Recorder

  constructor(handle: FileHandle, node: number, recorder: Recorder) {
    this.path = handle.path
    this.fd = handle.fd
    this.#handle = handle
    this.#node = node
    this.#recorder = recorder
  }

  read(into: Uint8Array, offset: number): Promise<number> {
    return this.#handle.read(into, offset)
  }

  async write(pieces: readonly Uint8Array[], offset: number): Promise<void> {
    const bytes = new Uint8Array(Buffer.concat(pieces))
    if (bytes.length === 0) return
    const change = { type: 'write', node: this.#node, offset, bytes } as const
    await this.#recorder.during(change, () => this.#handle.write([bytes], offset))
  }

  async truncate(size: number): Promise<void> {
    await this.#recorder.during({ type: 'truncate', node: this.#node, size }, () => this.#handle.truncate(size))
  }

  async zero(offset: number, length: number): Promise<void> {
    const change = { type: 'zero', node: this.#node, offset, length } as const
    await this.#recorder.during(change, () => this.#handle.zero(offset, length))
  }

  async sync(): Promise<void> {
    await this.#recorder.during({ type: 'sync', node: this.#node }, async () => undefined)
  }

  size(): Promise<number> {
    return this.#handle.size()
  }

  close(): Promise<void> {
    return this.#handle.close()
  }
}
