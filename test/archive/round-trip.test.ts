import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { checkArchive } from '../../src/archive/check.js'
import { type ArchiveReader, openArchive } from '../../src/archive/reader.js'
import { loadCodec } from '../../src/compress/load-codec.js'
import type { Extent } from '../../src/model/extent.js'
import { describeWith } from '../layers.js'
import { temporaryFolder } from '../temporary.js'
import { ModelStore } from './model-store.js'
import { onDisk, shared, writeArchive } from './write-archive.js'

const GIB = 1024 ** 3
const codec = await loadCodec()
const script = join(import.meta.dirname, '../../samples/restore-without-refpoint.py')

/** Extents that begin near window, block and store ends, where tables are cut; and what is written in them. */
const layout = fc.record({
  sizeBytes: fc.constantFrom(GIB * 2 + 512 * 3, GIB * 2 + 65_536 + 100, 700_000, 65_536, 1),
  pieces: fc.array(
    fc.record({
      near: fc.constantFrom(0, 65_536, GIB, GIB, 2 * GIB, 600_000 - (600_000 % 512)),
      before: fc.nat(300),
      sectors: fc.oneof(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1, max: 5000 })),
      kind: fc.constantFrom('data', 'data', 'zero'),
      content: fc.constantFrom('random', 'text', 'zeroes'),
      unknown: fc.integer({ min: 0, max: 9 }).map((n) => n === 0),
    }),
    { maxLength: 12 },
  ),
})

type Pieces = ReturnType<(typeof layout)['generate']>['value']['pieces']

interface Point {
  readonly extents: Extent[]
  readonly unknown: Set<number>
}

/** Writes the pieces into the model and returns them as ascending extents that do not overlap. */
function lay(model: ModelStore, pieces: Pieces): Point {
  const extents: Extent[] = []
  const unknown = new Set<number>()
  let end = 0
  const starts = pieces.map((piece) => ({ ...piece, offset: Math.max(0, piece.near - piece.before * 512) }))
  for (const piece of starts.sort((a, b) => a.offset - b.offset)) {
    const offset = Math.max(end, piece.offset)
    const length = Math.min(piece.sectors * 512, model.sizeBytes - offset)
    if (length <= 0) continue
    model.zero(offset, length)
    if (piece.kind === 'data') {
      model.write(offset, bytesFor(piece.content, offset, length))
      if (piece.unknown) unknown.add(Math.floor(offset / 65_536))
    }
    extents.push({ offset, length, kind: piece.kind })
    end = Math.ceil((offset + length) / 512) * 512
  }
  return { extents, unknown }
}

function bytesFor(content: string, offset: number, length: number): Buffer {
  if (content === 'zeroes') return Buffer.alloc(length)
  if (content === 'text') return Buffer.alloc(length, `block at ${offset} `)
  const key = createHash('sha256').update(String(offset + length)).digest()
  const bytes = Buffer.alloc(length)
  for (let at = 0; at < length; at += 32) createHash('sha256').update(key).update(String(at)).digest().copy(bytes, at)
  return bytes
}

/** Reads everything of a store back through the reader, and holds it against the model and the extents. */
async function expectStore(archive: ArchiveReader, name: string, model: ModelStore, point: Point): Promise<void> {
  const store = archive.store(name)
  const found: Extent[] = []
  const digests = new Map<number, string>()
  for (const window of store?.windows ?? []) {
    const tables = await store?.window(window)
    if (tables === undefined) throw new Error(`window ${window} is listed and has no tables`)
    const { extents, runs } = tables
    for (let row = 0; row < extents.count; row += 1) {
      const offset = window * GIB + (extents.start[row] ?? 0) * 512
      const length = Math.min((extents.sectors[row] ?? 0) * 512, model.sizeBytes - offset)
      const kind = extents.kind[row] === 1 ? 'data' : 'zero'
      if (kind === 'data') {
        const content = await archive.readFrame(extents.frame[row] ?? 0)
        const at = (extents.at[row] ?? 0) * 512
        expect(model.read(offset, length).equals(content.subarray(at, at + length))).toBe(true)
      }
      const last = found.at(-1)
      if (last !== undefined && last.kind === kind && last.offset + last.length === offset) {
        found[found.length - 1] = { ...last, length: last.length + length }
      } else found.push({ offset, length, kind })
    }
    let at = 0
    for (let row = 0; row < runs.count; row += 1) {
      for (let block = 0; block < (runs.blocks[row] ?? 0); block += 1) {
        const absolute = window * 16_384 + (runs.first[row] ?? 0) + block
        if (runs.state[row] === 1) {
          digests.set(absolute, Buffer.from(runs.digests.subarray(at, at + 16)).toString('hex'))
          at += 16
        } else digests.set(absolute, runs.state[row] === 2 ? 'zero' : 'unknown')
      }
    }
  }
  const joined: Extent[] = []
  for (const extent of point.extents) {
    const last = joined.at(-1)
    if (last !== undefined && last.kind === extent.kind && last.offset + last.length === extent.offset) {
      joined[joined.length - 1] = { ...last, length: last.length + extent.length }
    } else joined.push(extent)
  }
  expect(found).toEqual(joined)
  const expected = new Map<number, string>()
  for (const { offset, length } of point.extents) {
    for (let block = Math.floor(offset / 65_536); block * 65_536 < offset + length; block += 1) {
      const digest = model.digest(block)?.toString('hex') ?? 'zero'
      expected.set(block, point.unknown.has(block) ? 'unknown' : digest)
    }
  }
  expect(digests).toEqual(expected)
}

describe('an archive gives back what was put into it', () => {
  it('whatever the extents', { timeout: 240_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(layout, layout, async (first, second) => {
        const stores = [first, second].map(({ sizeBytes, pieces }, index) => {
          const model = new ModelStore(sizeBytes)
          const point = lay(model, pieces)
          const sum = point.unknown.size > 0 ? null : model.contentSum()
          return { name: `disk-${index}`, model, point, extents: point.extents, contentSum: sum, unknown: point.unknown }
        })
        const { bytes, sha256, totals } = await writeArchive(codec, stores)
        expect(createHash('sha256').update(bytes).digest('hex')).toBe(sha256)
        const archive = await openArchive(shared(bytes), codec)
        for (const [index, { name, model, point, contentSum }] of stores.entries()) {
          await expectStore(archive, name, model, point)
          expect(archive.store(name)?.contentSum).toBe(contentSum)
          const data = point.extents.filter((extent) => extent.kind === 'data')
          expect(totals[index]?.contentBytes).toBe(data.reduce((sum, extent) => sum + extent.length, 0))
          expect(totals[index]?.changedBytes).toBe(point.extents.reduce((sum, extent) => sum + extent.length, 0))
        }
        await archive.close()
        expect((await checkArchive(shared(bytes), codec)).frames).toBe(archive.frames.count)
      }),
      { numRuns: 60 },
    )
  })

  it('keeps configuration files, empty ones and such with long names too', async () => {
    const model = new ModelStore(4096)
    const long = `qemu/${'very-long-name-'.repeat(20)}.xml`
    const config = { 'domain.xml': Buffer.from('<domain/>'), empty: Buffer.alloc(0), [long]: Buffer.alloc(2_500_000, 'ab'), 'ü.txt': Buffer.from('ü') }
    const store = { name: 'root', model, extents: [], contentSum: model.contentSum() }
    const { bytes } = await writeArchive(codec, [store], { config })
    const archive = await openArchive(shared(bytes), codec)
    expect(archive.config.map((file) => file.path)).toEqual(Object.keys(config))
    for (const [path, content] of Object.entries(config)) {
      expect(Buffer.compare(await archive.readConfig(path), content)).toBe(0)
    }
    await archive.close()
    expect((await checkArchive(shared(bytes), codec)).members).toBe(7)
  })

  it('ends with a seek table as the zstd seekable format has it', async () => {
    const model = new ModelStore(300_000)
    model.write(0, bytesFor('random', 0, 200_000))
    const extents: Extent[] = [{ offset: 0, length: 200_192, kind: 'data' }]
    const { bytes } = await writeArchive(codec, [{ name: 'root', model, extents, contentSum: model.contentSum() }])
    expect(bytes.readUInt32LE(bytes.length - 4)).toBe(0x8f92eab1)
    expect(bytes.readUInt8(bytes.length - 5)).toBe(0)
    const frames = bytes.readUInt32LE(bytes.length - 9)
    const table = bytes.length - 9 - 8 * frames - 8
    expect(bytes.readUInt32LE(table)).toBe(0x184d2a5e)
    expect(bytes.readUInt32LE(table + 4)).toBe(8 * frames + 9)
    let at = 0
    for (let frame = 0; frame < frames; frame += 1) {
      const stored = bytes.readUInt32LE(table + 8 + 8 * frame)
      const content = bytes.readUInt32LE(table + 12 + 8 * frame)
      expect(bytes.readUInt32LE(at)).toBe(0xfd2fb528)
      expect(codec.decompress(bytes.subarray(at, at + stored), content).length).toBe(content)
      at += stored
    }
    expect(at).toBe(table)
  })
})

describeWith(['zstd', 'tar', 'python3'], 'other programs read an archive', () => {
  it('zstd tests it, tar lists and unpacks it', async () => {
    const folder = temporaryFolder()
    const model = new ModelStore(3_000_000)
    model.write(4096, bytesFor('random', 7, 2_000_000))
    const extents: Extent[] = [{ offset: 4096, length: 2_000_384, kind: 'data' }]
    const path = join(folder, 'a.tar.zst')
    const config = { 'etc/domain.xml': Buffer.from('<domain/>') }
    const store = { name: 'root', model, extents, contentSum: model.contentSum() }
    writeFileSync(path, (await writeArchive(codec, [store], { config })).bytes)
    await execa('zstd', ['-tq', path])
    const { stdout } = await execa('tar', ['--zstd', '-tf', path])
    expect(stdout.split('\n')).toEqual([
      'refpoint.json',
      'config/etc/domain.xml',
      'stores/root/data/0',
      'stores/root/tables/0',
      'stores/root/directory',
      'index.json',
    ])
    await execa('tar', ['--zstd', '-xf', path, '-C', folder])
    expect(readFileSync(join(folder, 'config/etc/domain.xml'), 'utf8')).toBe('<domain/>')
    expect(readFileSync(join(folder, 'stores/root/data/0')).equals(model.read(4096, 2_000_384))).toBe(true)
    expect(JSON.parse(readFileSync(join(folder, 'refpoint.json'), 'utf8')).machine).toBe('web01')
  })

  it('the standalone script restores every point of a chain', { timeout: 240_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(layout, { minLength: 1, maxLength: 3 }), async (layouts) => {
        const folder = temporaryFolder()
        let model = new ModelStore(layouts[0]?.sizeBytes ?? 1)
        const paths: string[] = []
        for (const [index, { pieces }] of layouts.entries()) {
          model = model.copy()
          const { extents } = lay(model, pieces)
          const path = join(folder, `${index}.tar.zst`)
          const store = { name: 'root', model, extents, contentSum: model.contentSum() }
          const place = { point: index + 1, parent: index === 0 ? null : index }
          onDisk(path, (await writeArchive(codec, [store], place)).bytes)
          paths.push(path)
          const image = join(folder, `${index}.img`)
          await execa('python3', [script, 'root', image, ...paths])
          await expectImage(image, model)
        }
      }),
      { numRuns: 8 },
    )
  })

  it('the standalone script finds a chain in a repository and takes the newest revision', async () => {
    const folder = temporaryFolder()
    const points = join(folder, 'machines/web01/points')
    mkdirSync(points, { recursive: true })
    const model = new ModelStore(500_000)
    model.write(0, bytesFor('random', 1, 100_000))
    const full = await writeArchive(codec, [
      { name: 'root', model, extents: [{ offset: 0, length: 500_000, kind: 'data' }], contentSum: model.contentSum() },
    ])
    model.write(65_536, bytesFor('text', 2, 512))
    const extents: Extent[] = [{ offset: 65_536, length: 512, kind: 'data' }]
    const sum = model.contentSum()
    const next = await writeArchive(codec, [{ name: 'root', model, extents, contentSum: sum }], { point: 3, parent: 1 })
    onDisk(join(folder, 'machines/web01/full.tar.zst'), full.bytes)
    onDisk(join(folder, 'machines/web01/next.tar.zst'), next.bytes)
    const manifest = (mode: string, parent: number | null, archive: string) =>
      JSON.stringify({ type: 'point', parent, stores: [{ name: 'root', mode }], archive: { name: `machines/web01/${archive}` } })
    writeFileSync(join(points, '1.json'), manifest('full', null, 'gone.tar.zst'))
    writeFileSync(join(points, '1.r2.json'), manifest('full', null, 'full.tar.zst'))
    writeFileSync(join(points, '3.json'), manifest('tracked', 1, 'next.tar.zst'))
    const image = join(folder, 'image')
    await execa('python3', [script, 'root', image, '--repository', folder, 'web01', '3'])
    await expectImage(image, model)
  })

  it('the standalone script refuses an image that is not what the content sum says', async () => {
    const folder = temporaryFolder()
    const model = new ModelStore(200_000)
    model.write(0, bytesFor('random', 1, 100_000))
    const extents: Extent[] = [{ offset: 0, length: 100_352, kind: 'data' }]
    const store = { name: 'root', model, extents, contentSum: '00'.repeat(32) }
    onDisk(join(folder, 'a'), (await writeArchive(codec, [store])).bytes)
    const run = await execa('python3', [script, 'root', join(folder, 'image'), join(folder, 'a')], { reject: false })
    expect(run.exitCode).toBe(1)
    expect(run.stderr).toContain('content sum disagrees')
    expect(() => readFileSync(join(folder, 'image'))).toThrow('ENOENT')
  })
})

async function expectImage(path: string, model: ModelStore): Promise<void> {
  const file = await open(path, 'r')
  expect((await file.stat()).size).toBe(model.sizeBytes)
  const blocks = new Set([...model.blocks(), 0, 16_383, Math.ceil(model.sizeBytes / 65_536) - 1])
  for (const block of blocks) {
    const expected = block * 65_536 < model.sizeBytes ? model.hashed(block) : Buffer.alloc(0)
    const found = Buffer.alloc(expected.length)
    await file.read(found, 0, found.length, block * 65_536)
    expect(found.equals(expected)).toBe(true)
  }
  await file.close()
}
