import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import type { Extent, Range } from '../../../src/model/extent.js'
import { connectNbd, type NbdClient } from '../../../src/nbd/client.js'
import { allocation, allocationContext, dirtyBitmapContext, dirtyRanges } from '../../../src/trackers/bitmaps/status-pages.js'
import { describeWith } from '../../layers.js'
import { run, start } from '../../nbd/programs.js'
import { makeImage } from '../../qemu/images.js'
import { temporaryFolder } from '../../temporary.js'

const mib = 1024 * 1024
const signal = new AbortController().signal

async function collected<T>(pages: AsyncIterable<readonly T[]>): Promise<T[]> {
  const all: T[] = []
  for await (const page of pages) all.push(...page)
  return all
}

/** A qcow2 image with the bitmap `changes`, as qemu-nbd serves it. */
async function served(prepare: (image: string) => Promise<void>): Promise<NbdClient> {
  const folder = temporaryFolder()
  const image = await makeImage(join(folder, 'disk.qcow2'), 'qcow2', 64 * mib)
  await run('qemu-img', 'bitmap', '--add', '-g', '65536', image, 'changes')
  await prepare(image)
  const path = join(folder, 'nbd.sock')
  await start(path, 'qemu-nbd', '-r', '-t', '-k', path, '-f', 'qcow2', '-B', 'changes', image)
  const contexts = [allocationContext, dirtyBitmapContext('changes')]
  const client = await connectNbd({ path }, { contexts })
  onTestFinished(() => client.disconnect())
  return client
}

describeWith(['qemu-img', 'qemu-io', 'qemu-nbd'], 'what QEMU tells of a disk over NBD', () => {
  it('becomes the ranges of its dirty bitmap and extents without gaps', async () => {
    const client = await served(async (image) => {
      await run('qemu-io', '-c', 'write -P 1 1M 128k', '-c', 'write -z 5M 1M', '-c', `write -P 2 ${64 * mib - 512} 512`, image)
    })
    const ranges: Range[] = await collected(dirtyRanges(client, dirtyBitmapContext('changes'), 64 * mib, { signal }))
    expect(ranges).toEqual([
      { offset: mib, length: 131_072 },
      { offset: 5 * mib, length: mib },
      { offset: 64 * mib - 65_536, length: 65_536 },
    ])
    const extents: Extent[] = await collected(allocation(client, { offset: 512, length: 6 * mib }, { signal }))
    expect(extents).toEqual([
      { offset: 512, length: mib - 512, kind: 'zero' },
      { offset: mib, length: 131_072, kind: 'data' },
      { offset: mib + 131_072, length: 5 * mib - 131_072 + 512, kind: 'zero' },
    ])
  })

  it('comes in pages when there is much of it', async () => {
    const client = await served(async (image) => {
      const writes = Array.from({ length: 400 }, (_, i) => ['-c', `write -P 7 ${i * 131_072} 512`]).flat()
      await run('qemu-io', ...writes, image)
    })
    const ranges = await collected(dirtyRanges(client, dirtyBitmapContext('changes'), 64 * mib, { signal }))
    expect(ranges).toEqual(Array.from({ length: 400 }, (_, i) => ({ offset: i * 131_072, length: 65_536 })))
  })

  it('is refused where the context was not agreed on, and ends with the signal', async () => {
    const client = await served(async () => {})
    const unknown = dirtyRanges(client, dirtyBitmapContext('other'), 64 * mib, { signal })
    await expect(collected(unknown)).rejects.toMatchObject({ code: 'tracker' })
    const reason = new Error('enough')
    const aborted = allocation(client, { offset: 0, length: mib }, { signal: AbortSignal.abort(reason) })
    await expect(collected(aborted)).rejects.toBe(reason)
  })
})
