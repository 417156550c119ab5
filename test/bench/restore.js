import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { changeDisk, changeFile, chooseBlocks } from './changes.js'
import { borgCreate, initBorg } from './full.js'
import { copyImage } from './image.js'
import { contest, shell } from './measure.js'
import { has } from './programs.js'
import { importDisk, setUp } from './refpoint.js'
import { goal, memoryGoal } from './table.js'

/** The newest point of a chain, to a new file. */
export async function restore(bench) {
  const { image, work, size } = bench
  const disk = join(work, 'disk')
  const source = join(work, 'source.raw')
  const target = join(work, 'restored')
  await mkdir(work, { recursive: true })
  await importDisk(bench, image.path, disk)
  await copyImage(image, source)
  const ours = await setUp(bench, 'ours', { tracker: 'disk', stores: { root: disk } })
  await ours.backup()
  for (let point = 1; point < size.chain; point += 1) {
    const blocks = await chooseBlocks(image, size.blocks, point)
    await changeDisk(disk, blocks)
    await changeFile(source, blocks)
    await ours.backup('--incremental')
  }
  const contestants = { refpoint: () => ours.refpoint('restore', 'bench', '--at', 'latest', '--to', target) }
  if (has('borg')) {
    // It has no chains: the disk as it is in the end, in one archive, takes no longer to extract.
    await initBorg(`${work}/borg`)
    await shell(borgCreate(`${work}/borg::last`, source))
    contestants['borg extract --sparse'] = async () => {
      await mkdir(`${work}/extracted`)
      const sync = `find '${work}/extracted' -type f -exec sync {} +`
      const ran = await shell(`borg extract --sparse '${work}/borg::last'; ${sync}`, { cwd: `${work}/extracted` })
      await rm(`${work}/extracted`, { recursive: true })
      return ran
    }
  }
  const { refpoint, ...others } = await contest(bench, {
    ...contestants,
    refpoint: async () => {
      const ran = await contestants.refpoint()
      await shell(`cmp '${target}/root.raw' '${source}'`)
      await rm(target, { recursive: true })
      return ran
    },
  })
  return [
    { what: `refpoint restore, ${size.chain} points`, ...refpoint },
    ...Object.entries(others).flatMap(([what, result]) => [
      { what, ...result },
      goal(`time, of ${what}`, refpoint.seconds / result.seconds, '≤', 0.5),
    ]),
    ...memoryGoal('peak memory', refpoint, 300),
  ]
}
