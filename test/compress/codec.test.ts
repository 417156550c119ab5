import { randomBytes } from 'node:crypto'
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { execaSync } from 'execa'
import fc from 'fast-check'
import { describe, expect, it, onTestFinished } from 'vitest'
import type { Codec } from '../../src/compress/codec.js'
import { loadCodec } from '../../src/compress/load-codec.js'
import { loadZstdCodec } from '../../src/compress/zstd-codec.js'
import { zlibCodec } from '../../src/compress/zlib-codec.js'
import { describeWith } from '../layers.js'
import { contents } from './contents.js'

const native = zlibCodec()
const codecs: Codec[] = [await loadZstdCodec(), ...(native === undefined ? [] : [native])]
const frames = join(import.meta.dirname, 'frames')

function damaged(codec: Codec, frame: Uint8Array, bytes: number): void {
  expect(() => codec.decompress(frame, bytes)).toThrow(expect.objectContaining({ code: 'damaged' }))
}

for (const codec of codecs) {
  describe(`the codec ${codec.name}`, () => {
    it('gives back what it compressed, at every level', () => {
      for (let level = 1; level <= 19; level += 1) {
        for (const content of Object.values(contents)) {
          const frame = codec.compress(content, level)
          expect(Buffer.compare(codec.decompress(frame, content.length), content)).toBe(0)
        }
      }
    })

    it('gives back any content', () => {
      fc.assert(
        fc.property(fc.uint8Array({ maxLength: 5000 }), fc.integer({ min: 1, max: 300 }), (piece, times) => {
          const content = Buffer.concat(Array.from({ length: Math.min(times, 200) }, () => piece))
          expect(Buffer.compare(codec.decompress(codec.compress(content, 1), content.length), content)).toBe(0)
        }),
        { numRuns: 50 },
      )
    })

    it('returns arrays of their own, which later calls leave alone', () => {
      const first = codec.compress(contents['text'] ?? Buffer.alloc(0), 1)
      const before = Buffer.from(first)
      const decoded = codec.decompress(first, contents['text']?.length ?? 0)
      codec.decompress(codec.compress(contents['noise'] ?? Buffer.alloc(0), 1), 2048)
      expect(before.equals(first)).toBe(true)
      expect(contents['text']?.equals(decoded)).toBe(true)
    })

    it('lends the same results, and others later', () => {
      for (const content of [...Object.values(contents), randomBytes(1024 ** 2)]) {
        const frame = codec.lendCompressed(content, 1, (lent) => Buffer.from(lent))
        expect(frame.equals(codec.compress(content, 1))).toBe(true)
        for (let round = 0; round < 3; round += 1) {
          const same = codec.lendDecompressed(frame, content.length, (lent) => Buffer.compare(lent, content) === 0)
          expect(same).toBe(true)
        }
        expect(Buffer.compare(codec.decompress(frame, content.length), content)).toBe(0)
      }
    })

    it('lends nothing that is no whole frame', () => {
      const frame = codec.compress(contents['text'] ?? Buffer.alloc(0), 1)
      const bytes = contents['text']?.length ?? 0
      let lent = 0
      const use = (): void => void (lent += 1)
      expect(() => codec.lendDecompressed(frame.subarray(0, -1), bytes, use)).toThrow(
        expect.objectContaining({ code: 'damaged' }),
      )
      expect(() => codec.lendDecompressed(frame, bytes + 1, use)).toThrow(expect.objectContaining({ code: 'damaged' }))
      expect(lent).toBe(0)
    })

    it('stores what can not be compressed at the cost of a store', () => {
      const noise = randomBytes(1024 ** 2)
      for (const level of [1, 3, 9]) expect(codec.compress(noise, level).length).toBeLessThan(noise.length + 128)
    })

    it('reads the frames that either codec wrote', () => {
      const files = readdirSync(frames)
      expect(files.length).toBe(6)
      for (const file of files) {
        const content = contents[file.replace(/^.*-|\.zst$/g, '')]
        expect(content?.equals(codec.decompress(readFileSync(join(frames, file)), content.length))).toBe(true)
      }
    })

    it("calls everything 'damaged' that is not one whole frame of that size", () => {
      const content = contents['text'] ?? Buffer.alloc(0)
      const frame = Buffer.from(codec.compress(content, 1))
      damaged(codec, frame, content.length - 1)
      damaged(codec, frame, content.length + 1)
      damaged(codec, Buffer.concat([frame, Buffer.from([0])]), content.length)
      damaged(codec, Buffer.concat([frame, frame]), content.length)
      damaged(codec, Buffer.concat([frame, frame]), 2 * content.length)
      for (let end = 0; end < frame.length; end += 1) damaged(codec, frame.subarray(0, end), content.length)
      damaged(codec, Buffer.from('not zstd at all'), 15)
      const skippable = Buffer.from('502a4d180400000000000000', 'hex')
      damaged(codec, skippable, 0)
    })

    it('never crashes on a frame with a flipped bit', () => {
      const content = contents['text'] ?? Buffer.alloc(0)
      const frame = Buffer.from(codec.compress(content, 1))
      let noticed = 0
      for (let bit = 0; bit < frame.length * 8; bit += 3) {
        const flipped = Buffer.from(frame)
        flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7))
        try {
          expect(codec.decompress(flipped, content.length).length).toBe(content.length)
        } catch (error) {
          expect(error).toMatchObject({ code: 'damaged' })
          noticed += 1
        }
      }
      expect(noticed).toBeGreaterThan(10)
      expect(content.equals(codec.decompress(frame, content.length))).toBe(true)
    })

    it('refuses a bomb and a huge window without decoding', () => {
      const bomb = codec.compress(contents['zeroes'] ?? Buffer.alloc(0), 1)
      expect(bomb.length).toBeLessThan(200)
      damaged(codec, bomb, 512)
      // A frame header with a window of 2 GiB, content size 512, and one RLE block.
      damaged(codec, Buffer.from('28b52ffd40a80001030000' + '00', 'hex'), 512)
    })
  })

  describeWith(['zstd'], `the codec ${codec.name} and the zstd command`, () => {
    it('read each other', () => {
      for (const content of Object.values(contents)) {
        const frame = codec.compress(content, 1)
        const zstd = (args: string[], input: Uint8Array) =>
          execaSync('zstd', args, { input, encoding: 'buffer', stripFinalNewline: false }).stdout
        expect(content.equals(zstd(['-dc'], frame))).toBe(true)
        for (const check of ['--check', '--no-check']) {
          const made = zstd(['-c', `--stream-size=${content.length}`, check], content)
          expect(content.equals(codec.decompress(made, content.length))).toBe(true)
        }
      }
    })
  })
}

describe('loading a codec', () => {
  it('takes node:zlib where it knows zstd, and either by name', async () => {
    expect((await loadCodec('zstd-codec')).name).toBe('zstd-codec')
    expect(await loadCodec('zstd-codec')).toBe(await loadCodec('zstd-codec'))
    const before = process.env['REFPOINT_CODEC']
    onTestFinished(() => {
      if (before === undefined) delete process.env['REFPOINT_CODEC']
      else process.env['REFPOINT_CODEC'] = before
    })
    delete process.env['REFPOINT_CODEC']
    expect((await loadCodec()).name).toBe(native === undefined ? 'zstd-codec' : 'zlib')
    process.env['REFPOINT_CODEC'] = 'zstd-codec'
    expect((await loadCodec()).name).toBe('zstd-codec')
    process.env['REFPOINT_CODEC'] = 'gzip'
    await expect(loadCodec()).rejects.toMatchObject({ code: 'usage' })
  })

  it.skipIf(native !== undefined)('says that this Node has no zstd when it is asked for by name', async () => {
    await expect(loadCodec('zlib')).rejects.toMatchObject({ code: 'usage', message: expect.stringContaining('zstd') })
  })
})
