import { createHash } from 'node:crypto'
import { open, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { loadNative } from '../../src/files/native.js'
import { dataExtents } from '../../src/files/sparse.js'
import { backupMachine } from '../../src/operations/backup/backup.js'
import { restorePoint } from '../../src/operations/restore/restore.js'
import { verify } from '../../src/operations/verify/verify.js'
import type { PointManifest } from '../../src/model/manifest.js'
import { createImageTracker } from '../../src/trackers/image/image-tracker.js'
import { readManifests } from '../../src/repository/manifests.js'
import { initRepository } from '../../src/repository/init.js'
import { localRepository } from '../../src/repository/local/local-repository.js'
import { buildEnvironment } from '../../src/compose.js'
import { temporaryFolder } from '../temporary.js'

/*
 * Stores of several windows (1 GiB each), sparse: what crosses a window's end, windows without anything, and stores
 * that end within one, are where an error by one would hide.
 */
const GiB = 2 ** 30
const signal = new AbortController().signal

/** Pieces that each point writes: offset and a byte to fill 100,000 bytes with; 0 makes zeroes over data. */
const history: readonly { readonly sizeBytes: number; readonly writes: readonly (readonly [number, number])[] }[] = [
  {
    sizeBytes: 5 * GiB + 4096,
    writes: [
      [0, 1],
      [GiB - 50_000, 2],
      [3 * GiB - 65_536, 3],
      [5 * GiB - 60_000, 4],
    ],
  },
  {
    sizeBytes: 5 * GiB + 4096,
    writes: [
      [GiB - 1000, 5],
      [4 * GiB, 6],
      [5 * GiB - 95_904, 7],
    ],
  },
  { sizeBytes: 3 * GiB, writes: [[3 * GiB - 100_000, 8]] },
  {
    sizeBytes: 5 * GiB + 512,
    writes: [
      [GiB - 50_000, 0],
      [4 * GiB + 77_824, 9],
    ],
  },
  { sizeBytes: 5 * GiB + 512, writes: [] },
]

it('backs up, restores and verifies across the ends of windows', async () => {
  const folder = temporaryFolder()
  const image = join(folder, 'image')
  const repository = localRepository(join(folder, 'repository'), { create: true })
  await initRepository(repository)
  const environment = await buildEnvironment(repository, { workers: 2, memoryBytes: 16 << 20, command: 'a test' })
  try {
    const sums: string[] = []
    const file = await open(image, 'w')
    await file.close()
    for (const { sizeBytes, writes } of history) {
      await change(image, sizeBytes, writes)
      sums.push(await sumOf(image))
      const tracker = createImageTracker({ stores: { disk: { path: image } }, allowTorn: false })
      await backupMachine(
        environment,
        {
          name: 'm',
          trackerName: 'image',
          tracker,
          files: {},
          level: 1,
          concurrentStores: 1,
          audit: { bytes: 0, milliseconds: 0 },
        },
        { request: 'auto', signal },
      )
    }
    const { points, problems } = await readManifests(repository, 'm')
    expect(problems).toEqual([])
    expect(points.map((point) => point.stores[0]?.sizeBytes)).toEqual(history.map(({ sizeBytes }) => sizeBytes))
    expect(points.at(-1)?.stores[0]).toMatchObject({ mode: 'compared', changedBytes: 0 })
    for (const [i, point] of points.entries()) {
      expect(await restoredSum(environment, point, points, folder), `point #${point.point}`).toBe(sums[i])
    }
    const report = await verify(environment, { machine: 'm', point: undefined, quick: false }, { signal })
    expect(report).toMatchObject({ points: history.length, findings: [], unknownBlocks: 0 })
  } finally {
    await environment.pool[Symbol.asyncDispose]()
  }
})

async function change(image: string, sizeBytes: number, writes: readonly (readonly [number, number])[]): Promise<void> {
  const file = await open(image, 'r+')
  try {
    await file.truncate(sizeBytes)
    for (const [offset, fill] of writes) {
      await file.write(Buffer.alloc(Math.min(100_000, sizeBytes - offset), fill), 0, undefined, offset)
    }
  } finally {
    await file.close()
  }
}

async function restoredSum(
  environment: Awaited<ReturnType<typeof buildEnvironment>>,
  point: PointManifest,
  points: readonly PointManifest[],
  folder: string,
): Promise<string> {
  const to = join(folder, `restored-${point.point}`)
  await restorePoint(
    environment,
    { point, points, stores: undefined, to: { folder: to }, format: undefined, force: false, concurrentStores: 1 },
    { signal },
  )
  const path = join(to, 'disk.raw')
  const { blocks } = await stat(path)
  expect(blocks * 512).toBeLessThan(8 << 20)
  const sum = await sumOf(path)
  await rm(path)
  return sum
}

/** SHA-256 over the size and all that is not zero, with its place; holes are not read. */
async function sumOf(path: string): Promise<string> {
  const native = await loadNative()
  const file = await open(path, 'r')
  try {
    const { size } = await file.stat()
    const hash = createHash('sha256').update(String(size))
    const piece = Buffer.alloc(4096)
    const zeroes = Buffer.alloc(piece.length)
    for (const page of dataExtents(file.fd, { offset: 0, length: size }, native)) {
      for (const extent of page) {
        if (extent.kind === 'zero') continue
        for (let at = extent.offset - (extent.offset % 4096); at < extent.offset + extent.length; at += piece.length) {
          const { bytesRead } = await file.read(piece, 0, piece.length, at)
          const found = piece.subarray(0, bytesRead)
          if (!found.equals(zeroes.subarray(0, bytesRead))) hash.update(`at ${at}`).update(found)
        }
      }
    }
    return hash.digest('hex')
  } finally {
    await file.close()
  }
}
