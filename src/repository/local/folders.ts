import { lstat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Files } from '../../files/files.js'
import { RefpointError } from '../../model/errors.js'
import { errorCode, isMissing } from './storage-error.js'

/** The folders of a local repository: made durably, and never left through a symbolic link. */
export class Folders {
  readonly #root: string
  readonly #files: Files
  readonly #createRoot: boolean
  /** Folders seen to be folders; for reading, where a folder that has gone since is told by the read itself. */
  readonly #seen = new Set<string>()
  /** Folders whose own name this process knows to be durable. */
  readonly #durable = new Set<string>()

  constructor(root: string, files: Files, createRoot: boolean) {
    this.#root = root
    this.#files = files
    this.#createRoot = createRoot
  }

  /** The path of a folder to read in; undefined when it is not there. */
  async find(segments: readonly string[]): Promise<string | undefined> {
    let path = this.#root
    for (const segment of segments) {
      path = join(path, segment)
      if (!this.#seen.has(path) && !(await this.#look(path))) return undefined
    }
    return path
  }

  /**
   * The path of a folder to write in, created where missing. When this resolves, the names of all folders on the way
   * are durable: also those that another process made and perhaps had no time to sync.
   */
  async ensure(segments: readonly string[]): Promise<string> {
    await this.#ensureRoot()
    let path = this.#root
    for (const segment of segments) {
      const parent = path
      path = join(path, segment)
      if (await this.#look(path)) {
        if (this.#durable.has(path)) continue
      } else {
        await this.#make(path)
      }
      await this.#files.syncFolder(parent)
      this.#durable.add(path)
    }
    return path
  }

  async #look(path: string): Promise<boolean> {
    try {
      const stats = await lstat(path)
      if (stats.isDirectory()) {
        this.#seen.add(path)
        return true
      }
      if (!stats.isSymbolicLink()) return false
    } catch (error) {
      if (isMissing(error)) return false
      throw error
    }
    throw symbolicLink(path)
  }

  async #ensureRoot(): Promise<void> {
    if (await this.#files.exists(this.#root)) return
    if (!this.#createRoot) {
      throw new RefpointError('no-repository', `the repository folder ${this.#root} is not there`, {
        hint: "If it is on a disk of its own, mount that; 'refpoint init' creates a new repository.",
        fields: { path: this.#root },
      })
    }
    const missing: string[] = []
    for (let path = this.#root; !(await this.#files.exists(path)); path = dirname(path)) missing.unshift(path)
    for (const path of missing) {
      await this.#make(path)
      await this.#files.syncFolder(dirname(path))
    }
  }

  async #make(path: string): Promise<void> {
    try {
      await this.#files.makeFolder(path)
    } catch (error) {
      if (errorCode(error) !== 'EEXIST') throw error
    }
  }
}

/** Links are refused, not followed: what they lead to is no part of the repository. */
export function symbolicLink(path: string): RefpointError {
  return new RefpointError('io', `${path} is a symbolic link, which a repository must not contain`, {
    hint: 'Put the real thing there; or link to the repository as a whole, which is allowed.',
    fields: { path },
  })
}
