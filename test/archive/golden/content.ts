import { createHash } from 'node:crypto'
import type { Extent } from '../../../src/model/extent.js'
import { ModelStore } from '../model-store.js'

/** What the archives in this folder were made of. Neither they nor this may ever change; a new format adds new ones. */
export const sizeBytes = 1024 ** 3 + 200_100
export const config = { 'domain.xml': Buffer.from('<domain type="kvm"><name>web01</name></domain>\n') }

export const fullExtents: readonly Extent[] = [
  { offset: 0, length: 8192, kind: 'data' },
  { offset: 65_536, length: 131_072, kind: 'zero' },
  { offset: 1024 ** 3 - 4096, length: 8192, kind: 'data' },
  { offset: 1024 ** 3 + 196_608, length: 3492, kind: 'data' },
]

export const incrementalExtents: readonly Extent[] = [
  { offset: 4096, length: 4096, kind: 'zero' },
  { offset: 69_632, length: 512, kind: 'data' },
]

export function fullStore(): ModelStore {
  const store = new ModelStore(sizeBytes)
  store.write(0, noise('head', 8192))
  store.write(1024 ** 3 - 4096, Buffer.alloc(8192, 'across the window '))
  store.write(1024 ** 3 + 196_608, Buffer.alloc(3492, 'the end'))
  return store
}

export function incrementalStore(): ModelStore {
  const store = fullStore()
  store.zero(4096, 4096)
  store.write(69_632, noise('change', 512))
  return store
}

function noise(name: string, bytes: number): Buffer {
  const pieces = Array.from({ length: bytes / 32 }, (_, at) => createHash('sha256').update(`${name} ${at}`).digest())
  return Buffer.concat(pieces)
}
