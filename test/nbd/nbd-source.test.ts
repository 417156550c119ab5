import { expect, it } from 'vitest'
import type { NbdSource, SourceReader } from '../../src/model/source.js'
import { openNbdSource } from '../../src/nbd/nbd-source.js'
import { memoryBackend } from './memory-backend.js'
import { pattern, serve } from './programs.js'

const mib = 1024 * 1024
const sizeBytes = 4 * mib

async function opened(overrides: Partial<NbdSource> = {}): Promise<{ reader: SourceReader; content: Buffer }> {
  const backend = memoryBackend(sizeBytes)
  const content = pattern(sizeBytes)
  await backend.write([content], 0)
  const { path } = await serve(backend)
  const source = { kind: 'nbd', sizeBytes, path, exportName: 'disk', refusalHint: 'Look at it.', ...overrides } as const
  return { reader: await openNbdSource(source), content }
}

it('reads any piece of an export, and zeroes past its end', async () => {
  const { reader, content } = await opened({ sizeBytes: sizeBytes + mib })
  for (const [offset, length] of [[0, 3 * mib], [12_345, 700_001], [sizeBytes - 10, 20], [sizeBytes + 5, 100]] as const) {
    const into = Buffer.alloc(length, 0xee)
    await reader.read(into, offset)
    const expected = Buffer.concat([content.subarray(offset, offset + length), Buffer.alloc(length)]).subarray(0, length)
    expect(into.equals(expected)).toBe(true)
  }
  await reader.close()
  await expect(Promise.resolve(reader.read(Buffer.alloc(1), 0))).rejects.toMatchObject({ code: 'tracker' })
})

it('says what a refusal means, and that there is no such export', async () => {
  const backend = memoryBackend(sizeBytes)
  const refusing = { ...backend, read: () => Promise.reject(Object.assign(new Error('broken'), { code: 'EINVAL' })) }
  const { path } = await serve(refusing)
  const source = { kind: 'nbd', sizeBytes, path, exportName: 'disk', refusalHint: 'Look at it.' } as const
  const reader = await openNbdSource(source)
  const refused = Promise.resolve(reader.read(Buffer.alloc(mib), 0))
  await expect(refused).rejects.toMatchObject({ code: 'tracker', hint: 'Look at it.', fields: { export: 'disk' } })
  await reader.close()
  await expect(openNbdSource({ ...source, exportName: 'other' })).rejects.toMatchObject({ code: 'tracker' })
})
