import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { checkArchive } from '../../src/archive/check.js'
import { encodeDirectory } from '../../src/archive/directory.js'
import { openArchive } from '../../src/archive/reader.js'
import { encodeSeekTable } from '../../src/archive/seek-table.js'
import { tarHeader } from '../../src/archive/tar-header.js'
import { loadCodec } from '../../src/compress/load-codec.js'
import type { RefpointError } from '../../src/model/errors.js'
import { temporaryFolder } from '../temporary.js'
import { ModelStore } from './model-store.js'
import { headerOf, onDisk, shared, writeArchive } from './write-archive.js'

const codec = await loadCodec()
const time = new Date('2026-01-31T03:00:00Z')

async function sound(): Promise<Buffer> {
  const model = new ModelStore(400_000)
  for (let at = 0; at < 200_000; at += 7) model.write(at, Buffer.from([at % 251]))
  const extents = [
    { offset: 0, length: 200_192, kind: 'data' },
    { offset: 262_144, length: 65_536, kind: 'zero' },
  ] as const
  const config = { 'domain.xml': Buffer.from('<domain/>') }
  return (await writeArchive(codec, [{ name: 'root', model, extents, contentSum: model.contentSum() }], { config })).bytes
}

const bytes = await sound()
const otherNumber = await tarHeader('stores/root/data/1', 200_192, time)
const otherSize = await tarHeader('stores/root/data/0', 199_680, time)

/** Offset of each frame, and of the seek table. */
function offsets(archive: Buffer): number[] {
  const frames = archive.readUInt32LE(archive.length - 9)
  const table = archive.length - 17 - 8 * frames
  const found = [0]
  for (let frame = 0; frame < frames; frame += 1) {
    found.push((found.at(-1) ?? 0) + archive.readUInt32LE(table + 8 + 8 * frame))
  }
  return found
}

// refpoint.json, config/domain.xml, data/0, tables/0, directory, index.json: a header and a payload frame each, the end.
const sections = [
  'header of refpoint.json', 'refpoint.json', 'header of config', 'config', 'header of data', 'data',
  'header of tables', 'tables', 'header of directory', 'directory', 'header of index.json', 'index.json', 'end',
]

async function failure(archive: Uint8Array): Promise<RefpointError> {
  return checkArchive(shared(archive), codec).then(
    () => expect.fail('the damage was not noticed'),
    (error: RefpointError) => error,
  )
}

/** The sound archive with the content of some frames replaced, its seek table fitting. */
function rebuilt(replace: ReadonlyMap<number, Uint8Array>, archive = bytes): Buffer {
  const places = offsets(archive)
  const frames = places.slice(1).map((end, frame) => {
    const content = replace.get(frame)
    return content === undefined ? archive.subarray(places[frame], end) : Buffer.from(codec.compress(content, 1))
  })
  const table = (places.at(-1) ?? 0) + 8
  const sizes = frames.map((_, frame) => replace.get(frame)?.length ?? archive.readUInt32LE(table + 8 * frame + 4))
  const seek = encodeSeekTable(Uint32Array.from(frames.map((frame) => frame.length)), Uint32Array.from(sizes))
  return Buffer.concat([...frames, seek])
}

function content(frame: number): Buffer {
  const places = offsets(bytes)
  const stated = bytes.readUInt32LE((places.at(-1) ?? 0) + 12 + 8 * frame)
  return Buffer.from(codec.decompress(bytes.subarray(places[frame], places[frame + 1]), stated))
}

function json(frame: number, change: (value: Record<string, unknown>) => void): Map<number, Uint8Array> {
  const value = JSON.parse(content(frame).toString())
  change(value)
  const text = Buffer.from(JSON.stringify(value))
  expect(text.length).toBeLessThanOrEqual(content(frame).length)
  return new Map([[frame, Buffer.concat([text, Buffer.alloc(content(frame).length - text.length, '\n')])]])
}

describe('a damaged archive', () => {
  it('is sound before it is damaged', async () => {
    expect(await checkArchive(shared(bytes), codec)).toEqual({ members: 6, frames: sections.length, windows: 1 })
    expect(await checkArchive(shared(rebuilt(new Map())), codec)).toEqual({ members: 6, frames: 13, windows: 1 })
  })

  for (const [frame, section] of sections.entries()) {
    it(`cut off in ${section} is 'damaged'`, async () => {
      const [start = 0, end = 0] = offsets(bytes).slice(frame, frame + 2)
      for (const at of [start, start + 1, Math.floor((start + end) / 2)]) {
        expect((await failure(bytes.subarray(0, at))).code).toBe('damaged')
      }
    })

    it(`with a bit flipped in ${section} is 'damaged' or still says what was written`, async () => {
      const [start = 0, end = 0] = offsets(bytes).slice(frame, frame + 2)
      let noticed = 0
      const step = Math.max(1, Math.floor((end - start) / 40))
      for (let at = start; at < end; at += step) {
        const flipped = Buffer.from(bytes)
        flipped[at] = (flipped[at] ?? 0) ^ (1 << (at % 8))
        const error = await checkArchive(shared(flipped), codec).then(() => undefined, (reason: RefpointError) => reason)
        if (error === undefined) continue
        expect(['damaged', 'no-repository']).toContain(error.code)
        expect(error.message).toContain('archive in memory')
        noticed += 1
      }
      expect(noticed).toBeGreaterThan(0)
    })
  }

  it("with a bit flipped anywhere in the seek table is 'damaged'", async () => {
    const table = offsets(bytes).at(-1) ?? 0
    for (let at = table; at < bytes.length; at += 1) {
      const flipped = Buffer.from(bytes)
      flipped[at] = (flipped[at] ?? 0) ^ (1 << (at % 8))
      expect((await failure(flipped)).code).toBe('damaged')
    }
  })

  it('that ends early or is missing on disk says which file', async () => {
    const path = join(temporaryFolder(), 'a.tar.zst')
    await expect(openArchive({ kind: 'file', path, bytes: 100 }, codec)).rejects.toMatchObject({ code: 'damaged' })
    onDisk(path, bytes.subarray(0, 1000))
    const location = { kind: 'file', path, bytes: bytes.length } as const
    await expect(openArchive(location, codec)).rejects.toMatchObject({
      code: 'damaged',
      message: expect.stringContaining(path),
    })
    await expect(openArchive(shared(Buffer.alloc(0)), codec)).rejects.toMatchObject({ code: 'damaged' })
  })

  it('that is a decompression bomb is refused before it is decoded', async () => {
    const bomb = Buffer.from(codec.compress(new Uint8Array(1024 ** 2), 1))
    const sizes = Uint32Array.from({ length: 13 }, (_, frame) => content(frame).length)
    const places = offsets(bytes)
    const frames = sizes.reduce<Buffer[]>((all, _, frame) => {
      all.push(frame === 5 ? bomb : bytes.subarray(places[frame], places[frame + 1]))
      return all
    }, [])
    const stored = Uint32Array.from(frames.map((frame) => frame.length))
    const error = await failure(Buffer.concat([...frames, encodeSeekTable(stored, sizes)]))
    expect(error.code).toBe('damaged')
    expect(error.message).toMatch(/frame 5: .*states 1048576 bytes of content, expected 200192/)
    sizes[5] = 2 ** 31
    const huge = await failure(Buffer.concat([...frames, encodeSeekTable(stored, sizes)]))
    expect(huge.message).toMatch(/seek table: frame 5 states 2147483648 bytes/)
  })

  it("that has a member named with '..' is refused", async () => {
    const inHeader = rebuilt(new Map([[2, await tarHeader('config/../../x', 9, time)]]))
    const error = await failure(inHeader)
    expect(error).toMatchObject({ code: 'damaged' })
    expect(error.message).toContain('config/domain.xml')
    const index = JSON.parse(content(11).toString())
    index.members.config[0].path = '../x'
    const text = Buffer.alloc(content(11).length, '\n')
    text.write(JSON.stringify(index))
    const inIndex = await failure(rebuilt(new Map([[11, text]])))
    expect(inIndex).toMatchObject({ code: 'damaged' })
    expect(inIndex.message).toContain("'../x' is no path within the configuration")
  })

  it('that needs a newer version says so, and is not called damaged', async () => {
    const feature = await failure(rebuilt(json(1, (value) => (value['requires'] = ['quantum']))))
    expect(feature).toMatchObject({ code: 'no-repository' })
    expect(feature.message).toContain('needs a newer refpoint: feature quantum')
    const format = await failure(rebuilt(json(1, (value) => (value['format'] = 2))))
    expect(format).toMatchObject({ code: 'no-repository' })
    expect(format.message).toContain('format 2')
  })

  it.each<[string, Map<number, Uint8Array>, RegExp]>([
    ['a header without a machine', json(1, (value) => delete value['machine']), /refpoint\.json: machine/],
    ['an index of another point', json(11, (value) => (value['point'] = 7)), /index\.json: it is of point 7/],
    ['an index of another store', json(11, (value) => ((value['stores'] as { name: string }[])[0] = { ...(value['stores'] as { name: string }[])[0], name: 'r' })), /names the stores r,/],
    ['a data member of another name', new Map([[4, otherNumber]]), /no such member/],
    ['a data member of another size', new Map([[4, otherSize]]), /its frames hold 200192 bytes|tar stream can not be read/],
    ['an end that is not zero', new Map([[12, Buffer.alloc(1024, 1)]]), /end of the tar stream|index\.json/],
  ])('with %s', async (_, replace, message) => {
    const error = await failure(rebuilt(replace))
    expect(error.code).toBe('damaged')
    expect(error.message).toMatch(message)
    expect(error.hint).toContain('refpoint verify')
  })

  const row = { window: 0, extents: 2, runs: 2, digests: 4, frame: 7, at: 0, bytes: 20 * 2 + 12 * 2 + 16 * 4 }
  it.each<[string, Partial<typeof row>, RegExp]>([
    ['a window past the end', { window: 1 }, /directory of store root: row 0 names window 1/],
    ['too many extents', { extents: 2 ** 31 }, /more rows than a window can have/],
    ['a length that disagrees', { bytes: 200 }, /tables of 200 bytes/],
    ['frames that do not exist', { frame: 4_000_000_000 }, /frames that do not exist/],
    ['frames of content', { frame: 5 }, /frame 5 holds no tables of it|window 0/],
    ['a place past the frame', { at: 500 }, /end past the content of their frame/],
  ])('with a directory of %s', async (_, change, message) => {
    const rows = Buffer.alloc(512, 0xff)
    rows.set(encodeDirectory([{ ...row, ...change }]))
    const error = await failure(rebuilt(new Map([[9, rows]])))
    expect(error.code).toBe('damaged')
    expect(error.message).toMatch(message)
  })

  // Words of the tables: start ×2, sectors ×2, kind ×2, frame ×2, at ×2, then first ×2, count ×2, state ×2.
  it.each<[string, number, number, RegExp]>([
    ['an extent past the store', 3, 5000, /extent 1 ends past the end of its window or store/],
    ['extents that overlap', 1, 100, /extent 1 begins before the end/],
    ['an empty extent', 2, 0, /extent 0 is empty/],
    ['an extent of a new kind', 4, 9, /unknown kind 9/],
    ['content in a frame that does not exist', 6, 4_000_000, /names frame 4000000/],
    ['content in the frame of the tables', 6, 9, /past the content of its frame/],
    ['content past its frame', 8, 1, /extent 0 ends past the content of its frame/],
    ['content for zeroes', 7, 5, /zero extent 1 names content/],
    ['a digest that no extent touches', 10, 1, /digest|touch/],
    ['more digests than there are', 12, 5, /digest run/],
    ['a digest of a new state', 15, 5, /unknown state 5/],
  ])('with tables of %s', async (_, word, value, message) => {
    const tables = content(7)
    tables.writeUInt32LE(value, 4 * word)
    const error = await failure(rebuilt(new Map([[7, tables]])))
    expect(error.code).toBe('damaged')
    expect(error.message).toContain('tables of window 0 of store root')
    expect(error.message).toMatch(message)
  })

  it('whose header is of another store is refused', async () => {
    const header = headerOf([{ name: '../root', kind: 'disk', sizeBytes: 400_000, mode: 'full' }])
    const text = Buffer.alloc(1024, '\n')
    text.write(JSON.stringify(header))
    const error = await failure(rebuilt(new Map<number, Uint8Array>([[0, await tarHeader('refpoint.json', 1024, time)], [1, text]])))
    expect(error.message).toContain("'../root' is no name of a store of its own")
  })
})
