import type { Backend, MetaContext, StatusRun } from '../../src/nbd/backend.js'

const pageBytes = 64 * 1024
const hole = 1
const zero = 2

/** What the memory backend was asked, for tests to assert on. */
export interface BackendCounts {
  flushes: number
  trims: number
  punches: number
  zeroes: number
}

export interface MemoryBackend extends Backend {
  readonly counts: BackendCounts
  /** All of its bytes. */
  content(): Buffer
  /** Awaited before every read and write: a place for tests to delay or to fail. */
  before: (what: 'read' | 'write' | 'flush', offset: number) => Promise<void> | void
}

export interface MemoryBackendOptions {
  readonly readOnly?: boolean
  readonly minimum?: number
  readonly maximum?: number
}

/** A real disk in memory, thin by pages, that tells its allocation and, as `test:written`, its written pages. */
export function memoryBackend(sizeBytes: number, options: MemoryBackendOptions = {}): MemoryBackend {
  const pages = new Map<number, Buffer>()
  const counts = { flushes: 0, trims: 0, punches: 0, zeroes: 0 }

  function* pieces(offset: number, length: number): Generator<{ page: number; from: number; to: number; at: number }> {
    for (let at = 0; at < length;) {
      const page = Math.floor((offset + at) / pageBytes)
      const from = (offset + at) % pageBytes
      const to = Math.min(pageBytes, from + length - at)
      yield { page, from, to, at }
      at += to - from
    }
  }
  const clear = (offset: number, length: number, punch: boolean): void => {
    for (const { page, from, to } of pieces(offset, length)) {
      if (punch && to - from === pageBytes) pages.delete(page)
      else pages.get(page)?.fill(0, from, to)
    }
  }
  const context = (name: string, flagsOf: (page: number) => number): MetaContext => ({
    name,
    status: async (offset, length, maxRuns) => {
      const runs: StatusRun[] = []
      for (const { page, from, to } of pieces(offset, length)) {
        const flags = flagsOf(page)
        const last = runs.at(-1)
        if (last?.flags === flags) runs[runs.length - 1] = { flags, length: last.length + to - from }
        else if (runs.length === maxRuns) break
        else runs.push({ flags, length: to - from })
      }
      return runs
    },
  })
  const backend: MemoryBackend = {
    sizeBytes,
    readOnly: options.readOnly ?? false,
    blockSizes: { minimum: options.minimum ?? 1, preferred: 4096, maximum: options.maximum ?? 32 * 1024 * 1024 },
    counts,
    before: () => {},
    read: async (into, offset) => {
      await backend.before('read', offset)
      for (const { page, from, to, at } of pieces(offset, into.length)) {
        const bytes = pages.get(page)
        if (bytes === undefined) into.fill(0, at, at + to - from)
        else into.set(bytes.subarray(from, to), at)
      }
    },
    write: async (parts, offset) => {
      await backend.before('write', offset)
      let start = offset
      for (const part of parts) {
        for (const { page, from, to, at } of pieces(start, part.length)) {
          let bytes = pages.get(page)
          if (bytes === undefined) pages.set(page, (bytes = Buffer.alloc(pageBytes)))
          bytes.set(part.subarray(at, at + to - from), from)
        }
        start += part.length
      }
    },
    zero: async (offset, length, { punch }) => {
      counts.zeroes++
      if (punch) counts.punches++
      clear(offset, length, punch)
    },
    trim: async (offset, length) => {
      counts.trims++
      clear(offset, length, true)
    },
    flush: async () => {
      await backend.before('flush', 0)
      counts.flushes++
    },
    contexts: [
      context('base:allocation', (page) => (pages.has(page) ? 0 : hole | zero)),
      context('test:written', (page) => (pages.has(page) ? 1 : 0)),
    ],
    openContext: async (name) => {
      if (name === 'test:broken') throw new Error('this context is broken')
      if (!name.startsWith('test:every:')) return undefined
      return context(name, (page) => (page % Number(name.slice(11)) === 0 ? 1 : 0))
    },
    content: () => {
      const all = Buffer.alloc(sizeBytes)
      for (const [page, bytes] of pages) all.set(bytes.subarray(0, sizeBytes - page * pageBytes), page * pageBytes)
      return all
    },
  }
  return backend
}
