import { linkSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Change, type Operation, type Recording, rootNode } from './recording-files.js'

/**
 * What became of everything that was not synced: `none` of it reached the disk, `all` did, only the `names`, only the
 * `contents`, or (a number, the seed) any part, down to single sectors of single writes.
 */
export type Luck = 'none' | 'all' | 'names' | 'contents' | number

export interface CrashState {
  /** The power went after this many events of the recording. */
  readonly cut: number
  readonly luck: Luck
}

const sector = 512

export interface CrashStatesOptions {
  readonly seed: number
  /** The first and last moment of a crash, as `recording.now()` gave them; default all of the recording. */
  readonly from?: number
  readonly to?: number
  /** Random states at each moment, beside the four extreme ones; default 3. */
  readonly random?: number
  /** At most so many states, evenly chosen; default all. */
  readonly limit?: number
}

/** Crash states to look at, the same for the same recording and options. */
export function crashStates(recording: Recording, options: CrashStatesOptions): readonly CrashState[] {
  const { seed, from = 0, to = recording.now(), random = 3, limit = Infinity } = options
  const states: CrashState[] = []
  for (let cut = from; cut <= to; cut += 1) {
    const seeds = Array.from({ length: random }, (_, index) => Math.imul(seed + cut * 31 + index, 0x9e3779b1) >>> 0)
    for (const luck of ['none', 'all', 'names', 'contents', ...seeds] as const) states.push({ cut, luck })
  }
  if (states.length <= limit) return states
  const draw = randomNumbers(seed)
  const step = states.length / limit
  return Array.from({ length: limit }, (_, index) => {
    const state = states[Math.min(states.length - 1, Math.floor((index + draw()) * step))]
    return state ?? { cut: to, luck: 'none' }
  })
}

/** Writes the recorded folder, as the crash left it, into `folder`, which exists and is empty. */
export function materialise(recording: Recording, state: CrashState, folder: string): void {
  const operations = recording.log.filter(({ begun }) => begun <= state.cut)
  const names = survivingNames(recording, operations, state)
  const written = new Map<number, string>()
  function write(node: number, path: string): void {
    for (const [name, child] of names.get(node) ?? []) {
      const target = join(path, name)
      const first = written.get(child)
      if (names.has(child)) {
        mkdirSync(target, { mode: 0o700 })
        write(child, target)
      } else if (first === undefined) {
        writeFileSync(target, survivingContent(recording, operations, state, child), { mode: 0o600 })
        written.set(child, target)
      } else {
        linkSync(first, target)
      }
    }
  }
  write(rootNode, folder)
}

/** Whether an operation of a node was made durable by a sync that began after it ended, and ended before the cut. */
function isDurable(operation: Operation, syncs: readonly Operation[], cut: number): boolean {
  return syncs.some((sync) => sync.begun > operation.ended && sync.ended <= cut)
}

function survivingNames(recording: Recording, operations: readonly Operation[], state: CrashState) {
  const names = new Map<number, Map<string, number>>([[rootNode, new Map()]])
  for (const { folder, name, node, content } of recording.base) {
    names.get(folder)?.set(name, node)
    if (content === 'folder') names.set(node, new Map())
  }
  const draw = chooser(state, 'names', 1)
  const syncsOf = (folder: number): readonly Operation[] =>
    operations.filter(({ change }) => change.type === 'sync-folder' && change.node === folder)
  for (const operation of inOrder(operations)) {
    const { change } = operation
    if (change.type !== 'names') continue
    const { add, remove } = change
    if (change.made === 'folder' && add !== undefined) names.set(add.node, new Map())
    const removed = remove !== undefined && (isDurable(operation, syncsOf(remove.folder), state.cut) || draw())
    // A rename never loses the file: where the old name is gone, the new one is there.
    const added = add !== undefined && (removed || isDurable(operation, syncsOf(add.folder), state.cut) || draw())
    if (added) names.get(add.folder)?.set(add.name, add.node)
    if (removed) names.get(remove.folder)?.delete(remove.name)
  }
  return names
}

function survivingContent(
  recording: Recording,
  operations: readonly Operation[],
  state: CrashState,
  node: number,
): Uint8Array {
  const base = recording.base.find((entry) => entry.node === node)?.content
  const file = new Content(base instanceof Uint8Array ? base : new Uint8Array())
  const own = operations.filter(({ change }) => change.type !== 'names' && change.node === node)
  const syncs = own.filter(({ change }) => change.type === 'sync')
  const draw = chooser(state, 'contents', node + 2)
  for (const operation of inOrder(own)) apply(file, operation.change, isDurable(operation, syncs, state.cut), draw)
  return file.bytes()
}

function apply(file: Content, change: Change, durable: boolean, draw: () => boolean): void {
  if (change.type === 'truncate') {
    if (durable || draw()) file.resize(change.size)
  } else if (change.type === 'write') {
    const { offset, bytes } = change
    if (durable) {
      file.write(offset, bytes)
      return
    }
    // The size may be on the disk before the bytes are: then they read as zeroes.
    if (draw()) file.resize(Math.max(file.size, offset + bytes.length))
    eachSector(offset, bytes.length, (at, length) => {
      if (draw()) file.write(at, bytes.subarray(at - offset, at - offset + length))
    })
  } else if (change.type === 'zero') {
    eachSector(change.offset, change.length, (at, length) => {
      if (durable || draw()) file.zero(at, length)
    })
  }
}

function eachSector(offset: number, length: number, visit: (at: number, length: number) => void): void {
  const end = offset + length
  for (let at = offset; at < end; ) {
    const next = Math.min(end, (Math.floor(at / sector) + 1) * sector)
    visit(at, next - at)
    at = next
  }
}

/** By the order in which they ended; what never did is last. */
function inOrder(operations: readonly Operation[]): readonly Operation[] {
  return operations.toSorted((a, b) => (a.ended === b.ended ? a.begun - b.begun : a.ended - b.ended))
}

/** Says, for one thing after the other that was not synced, whether it reached the disk. */
function chooser(state: CrashState, part: 'names' | 'contents', stream: number): () => boolean {
  const { cut, luck } = state
  if (typeof luck !== 'number') return () => luck === 'all' || luck === part
  const draw = randomNumbers(luck ^ Math.imul(stream, 0x85ebca6b) ^ cut)
  const share = draw()
  return () => draw() < share
}

/** Numbers in [0, 1), the same for the same seed (mulberry32). */
function randomNumbers(seed: number): () => number {
  let state = seed | 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** A file's bytes as they change; grown bytes are zeroes. */
class Content {
  size: number
  #buffer: Uint8Array

  constructor(bytes: Uint8Array) {
    this.#buffer = Uint8Array.from(bytes)
    this.size = bytes.length
  }

  write(offset: number, bytes: Uint8Array): void {
    this.resize(Math.max(this.size, offset + bytes.length))
    this.#buffer.set(bytes, offset)
  }

  zero(offset: number, length: number): void {
    if (offset < this.size) this.#buffer.fill(0, offset, Math.min(offset + length, this.size))
  }

  resize(size: number): void {
    if (size > this.#buffer.length) {
      const grown = new Uint8Array(Math.max(size, this.#buffer.length * 2))
      grown.set(this.#buffer.subarray(0, this.size))
      this.#buffer = grown
    }
    if (size < this.size) this.#buffer.fill(0, size, this.size)
    this.size = size
  }

  bytes(): Uint8Array {
    return this.#buffer.subarray(0, this.size)
  }
}
