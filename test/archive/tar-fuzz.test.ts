import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { extractMember } from '../../src/archive/extract-member.js'
import { tarHeader } from '../../src/archive/tar-header.js'
import { TarWalk } from '../../src/archive/tar-walk.js'

const time = new Date(0)
const headers = [await tarHeader('index.json', 512, time), await tarHeader(`config/${'a'.repeat(300)}`, 512, time)]
/** Where a header says most: the size, the checksum, the type, the name's prefix. */
const place = fc.oneof(fc.integer({ min: 0, max: 1535 }), fc.constantFrom(124, 125, 135, 156, 157, 345))
const value = fc.oneof(fc.integer({ min: 0, max: 255 }), fc.constantFrom(0, 0x80, 0xf2, 0xff, 0x30, 0x35, 0x37, 0x67, 0x4c))
const changes = fc.array(fc.tuple(place, value), { minLength: 1, maxLength: 4 })

function fitChecksums(header: Buffer): void {
  for (let block = 0; block < header.length; block += 512) {
    let sum = 8 * 32
    for (let at = 0; at < 512; at += 1) if (at < 148 || at >= 156) sum += header[block + at] ?? 0
    header.write(`${sum.toString(8).padStart(6, '0')}\0 `, block + 148, 'latin1')
  }
}

async function walk(pieces: readonly Uint8Array[]): Promise<void> {
  const tar = new TarWalk()
  try {
    for (const piece of pieces) await tar.push(piece)
    await tar.end()
  } finally {
    tar.destroy()
  }
}

describe('reading tar headers', () => {
  it('ends, with a member or an error, whatever they say', async () => {
    const seen = { read: 0, refused: 0 }
    await fc.assert(
      fc.asyncProperty(fc.boolean(), changes, fc.boolean(), fc.boolean(), async (long, edits, fits, whole) => {
        const header = Buffer.from(headers[long ? 1 : 0] ?? [])
        for (const [at, byte] of edits) header[at % header.length] = byte
        if (fits) fitChecksums(header)
        const pieces = [header, Buffer.alloc(512, 1), Buffer.alloc(1024)]
        const read: Promise<unknown> = whole ? walk(pieces) : extractMember(pieces)
        await read.then(
          () => (seen.read += 1),
          (error: unknown) => {
            expect(error).toBeInstanceOf(Error)
            seen.refused += 1
          },
        )
      }),
      { numRuns: 2000 },
    )
    expect(seen.read).toBeGreaterThan(0)
    expect(seen.refused).toBeGreaterThan(0)
  })
})
