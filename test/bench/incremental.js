import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { changeDisk, chooseBlocks, compressedBytes } from './changes.js'
import { contest } from './measure.js'
import { has } from './programs.js'
import { importDisk, setUp } from './refpoint.js'
import { goal, memoryGoal, seconds } from './table.js'

/** A tracked incremental of some hundred changed blocks. */
export async function incremental(bench) {
  const { image, work, size } = bench
  const disk = join(work, 'disk')
  await mkdir(work, { recursive: true })
  await importDisk(bench, image.path, disk)
  const ours = await setUp(bench, 'ours', { tracker: 'disk', stores: { root: disk } })
  await ours.backup()
  let blocks = []
  const { refpoint } = await contest(bench, { refpoint: () => ours.backup('--incremental') }, async (round) => {
    blocks = await chooseBlocks(image, size.blocks, round + 1)
    await changeDisk(disk, blocks)
  })
  return [
    { what: `refpoint backup, ${size.blocks} blocks of 64 KiB (${refpoint.mode})`, ...refpoint },
    goal('time', refpoint.seconds, '≤', 1, seconds),
    ...(has('zstd')
      ? [goal('stored, of zstd -1 of the changed bytes', refpoint.storedBytes / (await compressedBytes(bench, blocks)), '≤', 1.05)]
      : []),
    ...memoryGoal('peak memory', refpoint, 300),
  ]
}
