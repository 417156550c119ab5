import { randomBytes } from 'node:crypto'
import { setImmediate } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import type { Chunk } from '../../src/archive/chunk.js'
import { checkArchive } from '../../src/archive/check.js'
import { openArchive } from '../../src/archive/reader.js'
import { ArchiveWriter } from '../../src/archive/writer.js'
import { loadCodec } from '../../src/compress/load-codec.js'
import { collect, headerOf, shared } from './write-archive.js'

const MIB = 1024 ** 2
const codec = await loadCodec()
const disk = (sizeBytes: number, name = 'root') => ({ name, kind: 'disk', sizeBytes, mode: 'full' }) as const
const noise = codec.compress(randomBytes(MIB), 1)

/** One MiB of content at a MiB of the store. */
function megabyte(index: number, changes: Partial<Chunk> = {}): Chunk {
  return {
    frame: noise,
    contentBytes: MIB,
    extents: Float64Array.from([index * MIB, MIB, 1, 0]),
    runs: Float64Array.from([index * 16, 16, 1]),
    digests: randomBytes(256),
    ...changes,
  }
}

function writerOf(...stores: ReturnType<typeof disk>[]): ArchiveWriter {
  return new ArchiveWriter({ header: headerOf(stores), codec, level: 1, queueBytes: 4 * MIB })
}

describe('the archive writer', () => {
  it('waits while more than its limit is queued, and goes on when the reader does', async () => {
    const writer = writerOf(disk(200 * MIB))
    const store = writer.store('root')
    let appended = 0
    const writing = (async () => {
      for (; appended < 100; appended += 1) await store.append(megabyte(appended))
      await store.finish(null)
      return writer.finish()
    })()
    for (let turn = 0; turn < 200; turn += 1) await setImmediate()
    expect(appended).toBeGreaterThan(15)
    expect(appended).toBeLessThan(40)
    const bytes = await collect(writer.output)
    expect((await writing).bytes).toBe(bytes.length)
    expect(appended).toBe(100)
    expect((await checkArchive(shared(bytes), codec)).windows).toBe(1)
  })

  it('keeps members whole when stores are written at once', async () => {
    const writer = writerOf(disk(64 * MIB, 'a'), disk(64 * MIB, 'b'), disk(0, 'empty'))
    const collected = collect(writer.output)
    await Promise.all(
      ['a', 'b', 'empty'].map(async (name) => {
        const store = writer.store(name)
        for (let index = 0; name !== 'empty' && index < 40; index += 1) await store.append(megabyte(index))
        await store.finish(null)
      }),
    )
    await writer.finish()
    const bytes = await collected
    // refpoint.json, index.json, and of both disks three data members, tables and directory; the empty one's directory.
    expect((await checkArchive(shared(bytes), codec)).members).toBe(2 + 2 * 5 + 1)
  })

  it('joins what continues, and cuts at window ends', async () => {
    const writer = writerOf(disk(4 * 1024 * MIB))
    const collected = collect(writer.output)
    const store = writer.store('root')
    for (let index = 0; index < 3 * 1024; index += 1) {
      const zero = { frame: null, contentBytes: 0, digests: new Uint8Array(0) }
      const rows = { extents: Float64Array.from([index * MIB, MIB, 2, 0]), runs: Float64Array.from([index * 16, 16, 2]) }
      await store.append({ ...zero, ...rows })
    }
    expect(await store.finish(null)).toMatchObject({ zeroExtents: 3, dataExtents: 0, changedBytes: 3 * 1024 * MIB })
    await writer.finish()
    const archive = await openArchive(shared(await collected), codec)
    const tables = await archive.store('root')?.window(1)
    expect(tables?.extents.count).toBe(1)
    expect(tables?.runs).toMatchObject({ count: 1, blocks: Uint32Array.from([16_384]) })
    expect(archive.store('root')?.windows).toEqual([0, 1, 2])
    await archive.close()
  })

  it('writes tables while it goes, so that they do not gather in memory', async () => {
    const writer = writerOf(disk(6 * 1024 * MIB))
    const collected = collect(writer.output)
    const store = writer.store('root')
    const tiny = codec.compress(new Uint8Array(512), 1)
    for (let index = 0; index < 6 * 16_384; index += 1) {
      await store.append({
        frame: tiny,
        contentBytes: 512,
        extents: Float64Array.from([index * 65_536, 512, 1, 0]),
        runs: Float64Array.from([index, 1, 1]),
        digests: randomBytes(16),
      })
    }
    await store.finish(null)
    await writer.finish()
    const bytes = await collected
    const archive = await openArchive(shared(bytes), codec)
    const members = new Set(archive.store('root')?.windows.map((window) => archive.store('root')?.directoryRow(window)?.frame))
    expect(members.size).toBeGreaterThan(1)
    await archive.close()
    expect((await checkArchive(shared(bytes), codec)).windows).toBe(6)
  })

  it('gives the reason of an abort to the reader and to whoever appends', async () => {
    const writer = writerOf(disk(64 * MIB))
    const collected = collect(writer.output)
    const reason = new Error('the guest is gone')
    const store = writer.store('root')
    await store.append(megabyte(0))
    writer.abort(reason)
    await expect(collected).rejects.toBe(reason)
    await expect(store.finish(null)).rejects.toBe(reason)
    await expect(writer.finish()).rejects.toThrow('not finished')
  })

  it('fails when the reader of its output stops', async () => {
    const writer = writerOf(disk(64 * MIB))
    const store = writer.store('root')
    for (let index = 0; index < 20; index += 1) await store.append(megabyte(index))
    for await (const piece of writer.output) {
      expect(piece.length).toBeGreaterThan(0)
      break
    }
    await expect(store.finish(null)).rejects.toThrow('stopped before its end')
  })

  it.each<[string, Partial<Chunk>]>([
    ['content that is no whole sectors', { contentBytes: 1000 }],
    ['an extent past the store', { extents: Float64Array.from([64 * MIB, MIB, 1, 0]) }],
    ['an extent within a sector', { extents: Float64Array.from([100, 512, 1, 0]) }],
    ['content past its frame', { extents: Float64Array.from([0, MIB, 1, 512]) }],
    ['an extent of a kind that is none', { extents: Float64Array.from([0, MIB, 3, 0]) }],
    ['fewer digests than its runs', { digests: new Uint8Array(16) }],
    ['more digests than its runs', { digests: new Uint8Array(1600) }],
    ['a run past the store', { runs: Float64Array.from([1024, 16, 1]) }],
    ['a touched block without a run', { runs: Float64Array.from([0, 15, 1]), digests: new Uint8Array(240) }],
  ])('refuses a chunk with %s', async (_, changes) => {
    const writer = writerOf(disk(64 * MIB))
    const collected = collect(writer.output)
    const store = writer.store('root')
    await expect(store.append(megabyte(0, changes)).then(() => store.finish(null))).rejects.toThrow(/chunk|tables/)
    const reason = new Error('given up')
    writer.abort(reason)
    await expect(collected).rejects.toBe(reason)
  })

  it('refuses what does not belong', async () => {
    const writer = writerOf(disk(MIB))
    await expect(writer.addConfig('../passwd', Buffer.alloc(1))).rejects.toThrow('not a path within')
    expect(() => writer.store('other')).toThrow('unknown')
    const store = writer.store('root')
    expect(() => writer.store('root')).toThrow('already written')
    await expect(writer.finish()).rejects.toThrow('not finished')
    const first = store.append(megabyte(0))
    await expect(store.append(megabyte(0))).rejects.toThrow('one call at a time')
    await first
    expect(() => writerOf(disk(1, 'a'), disk(1, 'a'))).toThrow('store names')
  })
})
