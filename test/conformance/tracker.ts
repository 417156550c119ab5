import { describe, expect, test } from 'vitest'
import { ChangeIdExpired } from '../../src/model/errors.js'
import type { Range } from '../../src/model/extent.js'
import type { ReferencePoint } from '../../src/model/reference-point.js'
import type { Source, SourceReader } from '../../src/model/source.js'
import { CONFIG_FILE_LIMIT, isConfigPath } from '../../src/archive/format.js'
import {
  type Checkpoint,
  type CheckpointStore,
  MACHINE_FILES_LIMIT,
  type Owner,
  type Tracker,
} from '../../src/trackers/tracker.js'
import { recall } from '../recall.js'

/** A real machine of two stores under the tracker, as the suite needs it. Cleans up by itself when the test ends. */
export interface TrackedMachine {
  readonly tracker: Tracker
  /** Names and sizes in bytes (multiples of 1 MiB, at least 4 MiB) of its two stores. */
  readonly stores: readonly [{ name: string; sizeBytes: number }, { name: string; sizeBytes: number }]
  /** The machine's own files that each checkpoint gives, sorted by path. */
  readonly files: readonly string[]
  /** As a guest does, through the layer; resolves when it is done. */
  write(store: string, bytes: Uint8Array, offset: number): Promise<void>
  zero(store: string, offset: number, length: number): Promise<void>
  /** A second tracker of the same machine, as the next run of the agent has. */
  another(): Tracker
  openSource(source: Source): Promise<SourceReader>
  /**
   * Ends the layer as a crash does (kill -9, or for a layer without a process its nearest kin), and starts it again.
   * What a guest wrote and flushed is still there.
   */
  crashLayer(): Promise<void>
  /** Changes a store's size as an operator does; undefined where the layer cannot. */
  readonly resize: ((store: string, sizeBytes: number) => Promise<void>) | undefined
}

export interface TrackerSuite {
  readonly name: string
  readonly machine: () => Promise<TrackedMachine>
  /** Whether guests can write while a checkpoint is held without disturbing it. */
  readonly writesWhileHeld: boolean
}

const owner: Owner = {
  repositoryId: 'b5b1f5ee-0000-4000-8000-000000000001',
  machineUuid: 'b5b1f5ee-0000-4000-8000-000000000002',
}
const mib = 1024 * 1024

/**
 * The contract of `src/trackers/tracker.ts`, on a real instance of a layer. What a tracker does not claim in its
 * capabilities (tracking, live machines) is not asked of it; what it claims is.
 */
export function describeTracker({ name, machine: build, writesWhileHeld }: TrackerSuite): void {
  describe(`${name}: the contract of every tracker`, () => {
    test('lists its stores, the same each time', async () => {
      const machine = await build()
      const stores = await machine.tracker.stores()
      expect(stores.map(({ name: store, sizeBytes }) => ({ name: store, sizeBytes }))).toEqual(machine.stores)
      expect(await machine.tracker.stores()).toEqual(stores)
      for (const { logicalBlockBytes } of stores) expect([512, 4096]).toContain(logicalBlockBytes)
    })

    test('a checkpoint holds what was written before it', async () => {
      const machine = await build()
      const [a, b] = machine.stores
      await machine.write(a.name, filled(1, 3000), 1000)
      await machine.write(b.name, filled(2, 512), b.sizeBytes - 512)
      await using taken = await checkpoint(machine.tracker)
      expect(machine.tracker.capabilities.consistency).toContain(taken.consistency)
      const content = await contentOf(machine, store(taken, a.name))
      expect(content.subarray(1000, 4000).equals(filled(1, 3000))).toBe(true)
      expect(content.subarray(4000).every((byte) => byte === 0)).toBe(true)
      const other = await contentOf(machine, store(taken, b.name))
      expect(other.subarray(-512).equals(filled(2, 512))).toBe(true)
      await taken.assertStable()
    })

    test('says zero only where there are zeroes, and leaves no gaps', async () => {
      const machine = await build()
      const [a] = machine.stores
      await machine.write(a.name, filled(7, 100_000), 1_500_000)
      await machine.zero(a.name, 1_510_000, 50_000)
      await using taken = await checkpoint(machine.tracker)
      const frozen = store(taken, a.name)
      const content = await contentOf(machine, frozen)
      for (const range of [{ offset: 0, length: a.sizeBytes }, { offset: 1_505_000, length: 12_345 }]) {
        let at = range.offset
        for await (const page of frozen.allocatedExtents(range, { signal: signal() })) {
          for (const extent of page) {
            expect(extent.offset).toBe(at)
            at += extent.length
            if (extent.kind === 'zero') expect(isZero(content.subarray(extent.offset, at))).toBe(true)
          }
        }
        expect(at).toBe(range.offset + range.length)
      }
    })

    test('disposing a checkpoint twice is harmless, and another can be taken', async () => {
      const machine = await build()
      const taken = await checkpoint(machine.tracker)
      await taken[Symbol.asyncDispose]()
      await taken[Symbol.asyncDispose]()
      await using again = await checkpoint(machine.another())
      expect(again.stores).toHaveLength(2)
    })

    test('releasing is idempotent, and does not need to follow a checkpoint', async () => {
      const machine = await build()
      const taken = await checkpoint(machine.tracker)
      const point = referencePoint(taken, 1)
      await taken[Symbol.asyncDispose]()
      await machine.tracker.release(point, owner)
      await machine.another().release(point, owner)
      await using again = await checkpoint(machine.tracker, point)
      expect(again.stores).toHaveLength(2)
    })

    test('an abort rejects with its reason, unwrapped', async () => {
      const machine = await build()
      const reason = new Error('enough')
      await expect(
        machine.tracker.checkpoint({ owner, previous: undefined, recall, signal: AbortSignal.abort(reason) }),
      ).rejects.toBe(reason)
      await using taken = await checkpoint(machine.tracker)
      expect(taken.stores).toHaveLength(2)
    })

    test('a change ID that it does not know is expired, never "nothing changed"', async () => {
      const machine = await build()
      await using taken = await checkpoint(machine.tracker)
      for (const frozen of taken.stores) {
        for (const since of ['', 'nonsense', foreign(frozen.changeId)]) {
          await expect(frozen.changedExtents(since, { signal: signal() })).rejects.toBeInstanceOf(ChangeIdExpired)
        }
      }
    })

    test('change IDs are there exactly where something is tracked', async () => {
      const machine = await build()
      await using taken = await checkpoint(machine.tracker)
      const tracked = machine.tracker.capabilities.granularityBytes > 0
      for (const frozen of taken.stores) expect(frozen.changeId !== undefined).toBe(tracked)
    })

    test("gives the machine's own files, each as an archive can take it, and keeps them as they were", async () => {
      const machine = await build()
      await using taken = await checkpoint(machine.tracker)
      expect(taken.files.map(({ path }) => path).toSorted()).toEqual(machine.files)
      expect(taken.files.filter(({ path }) => !isConfigPath(path))).toEqual([])
      const sizes = taken.files.map(({ content }) => content.length)
      expect(Math.max(0, ...sizes)).toBeLessThanOrEqual(CONFIG_FILE_LIMIT)
      expect(sizes.length).toBeLessThanOrEqual(MACHINE_FILES_LIMIT.count)
      expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThanOrEqual(MACHINE_FILES_LIMIT.bytes)
      const before = taken.files.map(({ content }) => Buffer.from(content))
      await machine.crashLayer()
      await taken[Symbol.asyncDispose]()
      taken.files.forEach(({ content }, index) => expect(before[index]?.equals(content)).toBe(true))
    })

    if (writesWhileHeld) describeHeld(build)
    describeTracking(build)
  })
}

function describeHeld(build: () => Promise<TrackedMachine>): void {
  test('what is written while a checkpoint is held is not in it', async () => {
    const machine = await build()
    const [a] = machine.stores
    await machine.write(a.name, filled(1, mib), 0)
    await using taken = await checkpoint(machine.tracker)
    await machine.write(a.name, filled(2, 5000), 3000)
    await machine.zero(a.name, 200_000, 300_000)
    await machine.write(a.name, filled(3, 512), 2 * mib + 512)
    const content = await contentOf(machine, store(taken, a.name))
    expect(content.subarray(0, mib).equals(filled(1, mib))).toBe(true)
    expect(isZero(content.subarray(mib))).toBe(true)
    await taken.assertStable()
  })

  test('a checkpoint is one instant over all stores, whatever is written meanwhile', async () => {
    const machine = await build()
    const [a, b] = machine.stores
    let stop = false
    const writing = (async () => {
      // The guest writes a number to one store, and after it the same number to the other.
      for (let turn = 1; !stop; turn += 1) {
        await machine.write(a.name, filled32(turn), 0)
        await machine.write(b.name, filled32(turn), 0)
      }
    })()
    try {
      for (let round = 0; round < 8; round += 1) {
        await using taken = await checkpoint(machine.tracker)
        const first = (await contentOf(machine, store(taken, a.name))).readUInt32LE(0)
        const second = (await contentOf(machine, store(taken, b.name))).readUInt32LE(0)
        expect([second, second + 1]).toContain(first)
      }
    } finally {
      stop = true
      await writing
    }
  })
}

function describeTracking(build: () => Promise<TrackedMachine>): void {
  /** For trackers that track; for others, that they say so. */
  async function tracked(test: (machine: TrackedMachine) => Promise<void>): Promise<void> {
    const machine = await build()
    if (machine.tracker.capabilities.granularityBytes > 0) return test(machine)
    await using taken = await checkpoint(machine.tracker)
    for (const frozen of taken.stores) {
      const asked = frozen.changedExtents('anything', { signal: signal() })
      await expect(asked).rejects.toMatchObject({ reason: 'untracked' })
    }
  }

  test('tells every change since an earlier reference point, zeroes too, and each store for itself', () =>
    tracked(async (machine) => {
      const [a, b] = machine.stores
      await machine.write(a.name, filled(1, mib), 0)
      const first = await pointOf(machine, 1)
      await machine.write(a.name, filled(2, 512), 70_000)
      await machine.zero(a.name, 300_000, 4096)
      await machine.write(a.name, filled(3, 10), a.sizeBytes - 10)
      await using taken = await checkpoint(machine.another(), first)
      const changed = await changedOf(store(taken, a.name), first)
      expect(covers(changed, { offset: 70_000, length: 512 })).toBe(true)
      expect(covers(changed, { offset: 300_000, length: 4096 })).toBe(true)
      expect(covers(changed, { offset: a.sizeBytes - 10, length: 10 })).toBe(true)
      const slack = 4 * machine.tracker.capabilities.granularityBytes
      expect(total(changed)).toBeLessThanOrEqual(512 + 4096 + 10 + 2 * slack)
      expect(await changedOf(store(taken, b.name), first)).toEqual([])
    }))

  test('a run that failed loses nothing: the point before it stays answerable', () =>
    tracked(async (machine) => {
      const [a] = machine.stores
      const first = await pointOf(machine, 1)
      await machine.write(a.name, filled(1, 512), 100_000)
      const failed = await checkpoint(machine.tracker, first)
      await failed[Symbol.asyncDispose]()
      await machine.write(a.name, filled(2, 512), 900_000)
      await using taken = await checkpoint(machine.another(), first)
      const changed = await changedOf(store(taken, a.name), first)
      expect(covers(changed, { offset: 100_000, length: 512 })).toBe(true)
      expect(covers(changed, { offset: 900_000, length: 512 })).toBe(true)
    }))

  test('after the layer crashed it tells all changes or says that it lost track', () =>
    tracked(async (machine) => {
      const [a] = machine.stores
      const first = await pointOf(machine, 1)
      await machine.write(a.name, filled(1, 5000), 100_000)
      await machine.crashLayer()
      await machine.write(a.name, filled(2, 512), 900_000)
      await using taken = await checkpoint(machine.another(), first)
      const content = await contentOf(machine, store(taken, a.name))
      expect(content.subarray(100_000, 105_000).equals(filled(1, 5000))).toBe(true)
      const changed = await changedOf(store(taken, a.name), first).catch((error: unknown) => {
        expect(error).toBeInstanceOf(ChangeIdExpired)
        return undefined
      })
      if (changed === undefined) return
      expect(covers(changed, { offset: 100_000, length: 5000 })).toBe(true)
      expect(covers(changed, { offset: 900_000, length: 512 })).toBe(true)
    }))

  test('a store that shrank and grew back is told as changed there, or expired', () =>
    tracked(async (machine) => {
      const [a] = machine.stores
      if (machine.resize === undefined) return
      await machine.write(a.name, filled(1, mib), a.sizeBytes - mib)
      const first = await pointOf(machine, 1)
      await machine.resize(a.name, a.sizeBytes - mib)
      await machine.resize(a.name, a.sizeBytes + mib)
      await using taken = await checkpoint(machine.another(), first)
      const frozen = store(taken, a.name)
      expect(frozen.sizeBytes).toBe(a.sizeBytes + mib)
      const content = await contentOf(machine, frozen)
      expect(isZero(content.subarray(a.sizeBytes - mib))).toBe(true)
      const changed = await changedOf(frozen, first).catch((error: unknown) => {
        expect(error).toBeInstanceOf(ChangeIdExpired)
        return undefined
      })
      if (changed !== undefined) expect(covers(changed, { offset: a.sizeBytes - mib, length: 2 * mib })).toBe(true)
    }))
}

const signal = (): AbortSignal => new AbortController().signal

function checkpoint(tracker: Tracker, previous?: ReferencePoint): Promise<Checkpoint> {
  return tracker.checkpoint({ owner, previous, recall, signal: signal() })
}

function referencePoint(taken: Checkpoint, point: number): ReferencePoint {
  const changeIds = Object.fromEntries(taken.stores.map(({ name, changeId }) => [name, changeId ?? '']))
  return { point, time: taken.time.toISOString(), consistency: taken.consistency, changeIds }
}

/** Takes a checkpoint, as a run that commits does, and names it. */
async function pointOf(machine: TrackedMachine, point: number): Promise<ReferencePoint> {
  const taken = await checkpoint(machine.tracker)
  const committed = referencePoint(taken, point)
  await machine.tracker.release(committed, owner)
  await taken[Symbol.asyncDispose]()
  return committed
}

function store(taken: Checkpoint, name: string): CheckpointStore {
  const found = taken.stores.find((candidate) => candidate.name === name)
  if (found === undefined) throw new Error(`the checkpoint has no store ${name}`)
  return found
}

async function contentOf(machine: TrackedMachine, { source, sizeBytes }: CheckpointStore): Promise<Buffer> {
  const reader = await machine.openSource(source)
  try {
    const content = Buffer.alloc(sizeBytes)
    for (let at = 0; at < sizeBytes; at += 777_777) await reader.read(content.subarray(at, at + 777_777), at)
    return content
  } finally {
    await reader.close()
  }
}

/** All changes, checked to ascend without overlapping, within the store. */
async function changedOf(frozen: CheckpointStore, since: ReferencePoint): Promise<Range[]> {
  const ranges: Range[] = []
  let end = 0
  for await (const page of await frozen.changedExtents(since.changeIds[frozen.name] ?? '', { signal: signal() })) {
    for (const range of page) {
      expect(range.offset).toBeGreaterThanOrEqual(end)
      expect(range.length).toBeGreaterThan(0)
      end = range.offset + range.length
      ranges.push(range)
    }
  }
  expect(end).toBeLessThanOrEqual(frozen.sizeBytes)
  return ranges
}

function covers(ranges: readonly Range[], wanted: Range): boolean {
  let at = wanted.offset
  for (const { offset, length } of ranges) if (offset <= at && at < offset + length) at = offset + length
  return at >= wanted.offset + wanted.length
}

function total(ranges: readonly Range[]): number {
  return ranges.reduce((sum, { length }) => sum + length, 0)
}

/** A change ID of the same form that nobody ever gave. */
function foreign(changeId: string | undefined): string {
  return (changeId ?? 'ffffffff').replaceAll(/[0-9a-f]/g, (digit) => (digit === '7' ? '1' : '7'))
}

function filled(byte: number, length: number): Buffer {
  return Buffer.alloc(length, byte)
}

function filled32(value: number): Buffer {
  return Buffer.from(new Uint32Array(1024).fill(value).buffer)
}

function isZero(bytes: Buffer): boolean {
  return bytes.every((byte) => byte === 0)
}
