import { basename } from 'node:path'
import type { MachineDocument } from '../document.js'

/** Where a store of the point was restored to. */
export interface RestoredStore {
  readonly store: string
  /** Its file's name in the folder that was restored to. */
  readonly file: string
  readonly format: string
}

/**
 * Places that the script knows when it runs, within an argument. No argument of a process can hold a NUL, so neither
 * can be mistaken for what a command line had.
 */
export const FOLDER = '\0folder\0'
export const RUN_FOLDER = '\0run\0'

/** A command line that can't be made into one for the restored machine without guessing. */
export class StartRefused extends Error {
  readonly reasons: readonly string[]

  constructor(reasons: readonly string[]) {
    super(reasons.join('; '))
    this.reasons = reasons
  }
}

/** What all rules of the rewriting know and write down. */
export class Rewriting {
  readonly document: MachineDocument
  readonly #stores: ReadonlyMap<string, RestoredStore>
  readonly #places = new Set<string>()
  readonly #changes: string[] = []
  readonly #needs: string[] = []
  readonly #refusals: string[] = []
  #hubs = 0

  constructor(document: MachineDocument, stores: readonly RestoredStore[]) {
    this.document = document
    this.#stores = new Map(stores.map((store) => [store.store, store]))
  }

  get changes(): readonly string[] {
    return this.#changes
  }

  get needs(): readonly string[] {
    return this.#needs
  }

  get refusals(): readonly string[] {
    return this.#refusals
  }

  restored(store: string | null): RestoredStore | undefined {
    return store === null ? undefined : this.#stores.get(store)
  }

  /** Says what differs from the command line that ran. Never a secret: only names and paths. */
  changed(what: string): void {
    this.#changes.push(what)
  }

  /** Says what of the host the script uses as it is. */
  needsOnHost(what: string): void {
    if (!this.#needs.includes(what)) this.#needs.push(what)
  }

  refuse(why: string): void {
    this.#refusals.push(why)
  }

  /** A name of its own in the folder for sockets and logs, like that of `path`. */
  runPath(path: string): string {
    const wanted = basename(path) || 'socket'
    let name = wanted
    for (let n = 2; this.#places.has(name); n += 1) name = `${wanted}.${n}`
    this.#places.add(name)
    return `${RUN_FOLDER}/${name}`
  }

  /** A network of nobody else. */
  nextHub(): number {
    this.#hubs += 1
    return 1000 + this.#hubs
  }
}
