import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { execa } from 'execa'
import { describe, expect, it } from 'vitest'
import { checkArchive } from '../../src/archive/check.js'
import { openArchive } from '../../src/archive/reader.js'
import { loadCodec } from '../../src/compress/load-codec.js'
import { describeWith } from '../layers.js'
import { temporaryFolder } from '../temporary.js'
import * as golden from './golden/content.js'
import type { ModelStore } from './model-store.js'

const codec = await loadCodec()
const folder = join(import.meta.dirname, 'golden')
const archives = [
  { name: 'format-1-full.tar.zst', model: golden.fullStore(), extents: golden.fullExtents, parent: null },
  { name: 'format-1-incremental.tar.zst', model: golden.incrementalStore(), extents: golden.incrementalExtents, parent: 1 },
]

function location(name: string) {
  const path = join(folder, name)
  return { kind: 'file', path, bytes: readFileSync(path).length } as const
}

describe('archives of format 1 that were written once', () => {
  for (const { name, model, extents, parent } of archives) {
    it(`${name} is still read as it was meant`, async () => {
      await checkArchive(location(name), codec)
      const archive = await openArchive(location(name), codec)
      expect(archive.header).toMatchObject({ format: 1, machine: 'web01', parent, time: '2026-01-31T03:00:00.000Z' })
      for (const [path, content] of Object.entries(golden.config)) {
        expect(Buffer.compare(await archive.readConfig(path), content)).toBe(0)
      }
      const store = archive.store('root')
      expect(store?.contentSum).toBe(model.contentSum())
      let bytes = 0
      for (const window of store?.windows ?? []) {
        const tables = await store?.window(window)
        for (let row = 0; row < (tables?.extents.count ?? 0); row += 1) {
          const offset = window * 1024 ** 3 + (tables?.extents.start[row] ?? 0) * 512
          const length = Math.min((tables?.extents.sectors[row] ?? 0) * 512, model.sizeBytes - offset)
          bytes += length
          if (tables?.extents.kind[row] !== 1) expect(model.read(offset, length).equals(Buffer.alloc(length))).toBe(true)
          else {
            const at = (tables.extents.at[row] ?? 0) * 512
            const content = await archive.readFrame(tables.extents.frame[row] ?? 0)
            expect(model.read(offset, length).equals(content.subarray(at, at + length))).toBe(true)
          }
        }
      }
      expect(bytes).toBe(extents.reduce((sum, extent) => sum + extent.length, 0))
      await archive.close()
    })
  }
})

describeWith(['python3', 'zstd'], 'archives of format 1 that were written once, without refpoint', () => {
  it('are still restored by the script', { timeout: 120_000 }, async () => {
    const script = join(import.meta.dirname, '../../samples/restore-without-refpoint.py')
    const image = join(temporaryFolder(), 'image')
    await execa('python3', [script, 'root', image, ...archives.map(({ name }) => join(folder, name))])
    const { stdout } = await execa('sha256sum', [image])
    expect(stdout.slice(0, 64)).toBe(sha256(golden.incrementalStore()))
  })
})

function sha256(model: ModelStore): string {
  const hash = createHash('sha256')
  const step = 1024 ** 2
  for (let at = 0; at < model.sizeBytes; at += step) hash.update(model.read(at, Math.min(step, model.sizeBytes - at)))
  return hash.digest('hex')
}
