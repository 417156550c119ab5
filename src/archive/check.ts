import type { Codec } from '../compress/codec.js'
import { FRAME_CONTENT_BYTES, KIND_DATA } from '../model/geometry.js'
import type { ObjectLocation } from '../model/location.js'
import { archiveDamage, reasonOf } from './archive-damage.js'
import {
  HEADER_MEMBER,
  INDEX_MEMBER,
  configMember,
  dataMember,
  directoryMember,
  filled,
  tablesMember,
} from './format.js'
import { type ArchiveReader, openArchive } from './reader.js'
import { type TarEntry, TarWalk } from './tar-walk.js'

export interface CheckOptions {
  /** Told after every member: stored bytes read, of how many. */
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void
  readonly signal?: AbortSignal
}

/** What a sound archive consists of. */
export interface CheckedArchive {
  readonly members: number
  readonly frames: number
  readonly windows: number
}

/**
 * Reads a whole archive: every frame decodes to the size it states, the frames form a tar stream of exactly the
 * members that the index tells, in their places, and every row of every table points at content of its own store.
 * Digests of the content are not its question. Memory does not grow with the archive but for 10 bytes per frame.
 * @throws RefpointError `damaged`, as `openArchive` does; an abort rejects with the signal's reason.
 */
export async function checkArchive(
  location: ObjectLocation,
  codec: Codec,
  options: CheckOptions = {},
): Promise<CheckedArchive> {
  const archive = await openArchive(location, codec)
  try {
    const walk = new ArchiveWalk(archive, location, options)
    const members = await walk.members()
    const windows = await walk.tables()
    return { members, frames: archive.frames.count, windows }
  } finally {
    await archive.close()
  }
}

class ArchiveWalk {
  readonly #archive: ArchiveReader
  readonly #name: string
  readonly #options: CheckOptions
  readonly #totalBytes: number
  /** Per frame: 0, or 2·store + 1 for content of a store, 2·store + 2 for its tables. */
  readonly #roles: Uint16Array
  /** Where the index says that members begin. */
  readonly #expected = new Map<number, string>()
  /** Data and table members seen so far, by store: their numbers follow each other. */
  readonly #next: { data: number; tables: number }[]

  constructor(archive: ArchiveReader, location: ObjectLocation, options: CheckOptions) {
    this.#archive = archive
    this.#name = location.kind === 'file' ? location.path : 'in memory'
    this.#options = options
    this.#totalBytes = location.bytes
    this.#roles = new Uint16Array(archive.frames.count)
    this.#next = archive.stores.map(() => ({ data: 0, tables: 0 }))
    this.#expected.set(0, HEADER_MEMBER)
    for (const file of archive.config) this.#expect(file.headerFrame, configMember(file.path))
    for (const store of archive.index.stores) this.#expect(store.directoryFrame - 1, directoryMember(store.name))
    this.#expect(archive.frames.count - 3, INDEX_MEMBER)
  }

  /** Walks all frames; returns the number of members. */
  async members(): Promise<number> {
    const tar = new TarWalk()
    const last = this.#archive.frames.count - 1
    let members = 0
    try {
      for (let frame = 0; frame < last; members += 1) {
        this.#options.signal?.throwIfAborted()
        frame = await this.#member(tar, frame)
        this.#options.onProgress?.(this.#archive.frames.offsetOf(frame), this.#totalBytes)
      }
      const end = await this.#archive.readFrame(last)
      const zeroes = end.length === 1024 && end.every((byte) => byte === 0)
      if (!zeroes) throw this.#damage('end of the tar stream', 'not zeroes')
      await tar.push(end)
      await tar.end().catch((error: unknown) => {
        throw this.#damage('end of the tar stream', reasonOf(error))
      })
    } finally {
      tar.destroy()
    }
    const [lost] = this.#expected.values()
    if (lost !== undefined) throw this.#damage(lost, 'the member is missing')
    this.#options.onProgress?.(this.#totalBytes, this.#totalBytes)
    return members
  }

  /** Reads the member that begins at `frame`; returns the frame after it. */
  async #member(tar: TarWalk, frame: number): Promise<number> {
    const [entry, ...more] = await this.#push(tar, frame)
    if (entry === undefined || more.length > 0) {
      throw this.#damage(`frame ${frame}`, 'it is not the header of one member')
    }
    const role = this.#role(entry, frame)
    const end = filled(entry.bytes)
    let read = 0
    let next = frame + 1
    for (; read < end; next += 1) {
      if (next >= this.#archive.frames.count - 1) throw this.#damage(entry.name, 'it goes on past the last frame')
      this.#options.signal?.throwIfAborted()
      const begun = await this.#push(tar, next)
      if (begun.length > 0) throw this.#damage(entry.name, `a member begins within frame ${next}`)
      this.#roles[next] = role
      read += this.#archive.frames.contentBytes(next)
    }
    if (read !== end) throw this.#damage(entry.name, `its frames hold ${read} bytes, its header says ${entry.bytes}`)
    return next
  }

  async #push(tar: TarWalk, frame: number): Promise<readonly TarEntry[]> {
    const content = await this.#archive.readFrame(frame)
    try {
      return await tar.push(content)
    } catch (error) {
      throw this.#damage(`frame ${frame}`, `the tar stream can not be read: ${reasonOf(error)}`)
    }
  }

  #role(entry: TarEntry, frame: number): number {
    const expected = this.#expected.get(frame)
    if (expected !== undefined) {
      if (expected !== entry.name) throw this.#damage(expected, `there is ${entry.name} in its place`)
      this.#expected.delete(frame)
      return 0
    }
    for (const [store, { name }] of this.#archive.stores.entries()) {
      const next = this.#next[store]
      if (next === undefined) continue
      if (entry.name === dataMember(name, next.data)) {
        next.data += 1
        return 2 * store + 1
      }
      if (entry.name === tablesMember(name, next.tables)) {
        next.tables += 1
        return 2 * store + 2
      }
    }
    if (this.#archive.header.optional.length > 0) return 0
    throw this.#damage(entry.name, 'the index tells of no such member')
  }

  /** Every window of every store; returns how many there are. */
  async tables(): Promise<number> {
    let windows = 0
    for (const [index, store] of this.#archive.stores.entries()) {
      for (const window of store.windows) {
        this.#options.signal?.throwIfAborted()
        const section = `tables of window ${window} of store ${store.name}`
        const row = store.directoryRow(window)
        const last = row === undefined ? 0 : row.frame + Math.ceil((row.at + row.bytes) / FRAME_CONTENT_BYTES) - 1
        for (let frame = row?.frame ?? 0; frame <= last; frame += 1) {
          if (this.#roles[frame] !== 2 * index + 2) throw this.#damage(section, `frame ${frame} holds no tables of it`)
        }
        const tables = await store.window(window)
        for (let extent = 0; extent < (tables?.extents.count ?? 0); extent += 1) {
          if (tables?.extents.kind[extent] !== KIND_DATA) continue
          const frame = tables.extents.frame[extent] ?? 0
          if (this.#roles[frame] !== 2 * index + 1) throw this.#damage(section, `frame ${frame} holds no content of it`)
        }
        windows += 1
      }
    }
    return windows
  }

  #expect(frame: number, member: string): void {
    const other = this.#expected.get(frame)
    if (other !== undefined) throw this.#damage(member, `the index has ${other} in the same place`)
    this.#expected.set(frame, member)
  }

  #damage(section: string, found: string): Error {
    return archiveDamage(this.#name, section, found)
  }
}
