import { writeFileSync } from 'node:fs'
import type { ArchiveHeader } from '../../src/archive/archive-header.js'
import type { StoreTotals } from '../../src/archive/store-writer.js'
import { ArchiveWriter } from '../../src/archive/writer.js'
import type { Codec } from '../../src/compress/codec.js'
import type { Extent } from '../../src/model/extent.js'
import type { ObjectLocation } from '../../src/model/location.js'
import type { ModelStore } from './model-store.js'

export interface StoreToWrite {
  readonly name: string
  readonly model: ModelStore
  readonly extents: readonly Extent[]
  readonly contentSum: string | null
  readonly unknown?: ReadonlySet<number>
}

export interface Written {
  readonly bytes: Buffer
  readonly sha256: string
  readonly totals: readonly StoreTotals[]
}

export function headerOf(stores: ArchiveHeader['stores'], changes: Partial<ArchiveHeader> = {}): ArchiveHeader {
  return {
    format: 1,
    requires: [],
    optional: [],
    agent: 'refpoint 0.1.0',
    repositoryId: '0b1c6e9a-6f1a-4d37-9d0a-3a6f5a3c9a11',
    machine: 'web01',
    machineUuid: '5a9c2d1e-0f6b-4a39-8e0e-6f7c3c0f1b22',
    point: 1,
    parent: null,
    nonce: '00112233445566778899aabbccddeeff',
    time: '2026-01-31T03:00:00.000Z',
    consistency: 'crash',
    stores,
    ...changes,
  }
}

/** Everything a writer puts out. */
export async function collect(output: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const pieces: Uint8Array[] = []
  for await (const piece of output) pieces.push(piece)
  return Buffer.concat(pieces)
}

/** Writes an archive of stores, all at once, as a backup does. */
export async function writeArchive(
  codec: Codec,
  stores: readonly StoreToWrite[],
  changes: Partial<ArchiveHeader> & { config?: Record<string, Uint8Array> } = {},
): Promise<Written> {
  const { config = {}, ...header } = changes
  const mode = header.parent === undefined || header.parent === null ? 'full' : 'tracked'
  const described = stores.map(({ name, model }) => ({ name, kind: 'disk', sizeBytes: model.sizeBytes, mode }) as const)
  const writer = new ArchiveWriter({ header: headerOf(described, header), codec, level: 1, queueBytes: 100_000 })
  const collected = collect(writer.output)
  for (const [path, content] of Object.entries(config)) await writer.addConfig(path, content)
  const totals = await Promise.all(
    stores.map(async ({ name, model, extents, contentSum, unknown }) => {
      const store = writer.store(name)
      for (const chunk of model.chunks(extents, codec, unknown)) await store.append(chunk)
      return store.finish(contentSum)
    }),
  )
  const { sha256 } = await writer.finish()
  return { bytes: await collected, sha256, totals }
}

export function shared(bytes: Uint8Array): ObjectLocation {
  const buffer = new SharedArrayBuffer(bytes.length)
  new Uint8Array(buffer).set(bytes)
  return { kind: 'shared', buffer, bytes: bytes.length }
}

export function onDisk(path: string, bytes: Uint8Array): ObjectLocation {
  writeFileSync(path, bytes)
  return { kind: 'file', path, bytes: bytes.length }
}
