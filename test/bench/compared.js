import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { changeFile, chooseBlocks } from './changes.js'
import { borgCreate, initBorg } from './full.js'
import { copyImage } from './image.js'
import { contest, shell } from './measure.js'
import { has } from './programs.js'
import { setUp } from './refpoint.js'
import { goal, memoryGoal } from './table.js'

/** An incremental of an image that nothing tracks: all of it is read and compared. */
export async function compared(bench) {
  const { image, work, size } = bench
  const source = join(work, 'source.raw')
  const borg = `${work}/borg`
  await mkdir(work, { recursive: true })
  await copyImage(image, source)
  const ours = await setUp(bench, 'ours', { tracker: 'image', stores: { root: source } })
  await ours.backup()
  const contestants = { refpoint: () => ours.backup('--incremental') }
  if (has('borg')) {
    await initBorg(borg)
    await shell(borgCreate(`${borg}::full`, source))
    contestants['borg create, second run'] = (round) => shell(borgCreate(`${borg}::${round}`, source))
  }
  const { refpoint, ...others } = await contest(bench, contestants, async (round) => {
    await changeFile(source, await chooseBlocks(image, size.blocks, round + 1))
  })
  return [
    { what: `refpoint backup, ${size.blocks} blocks of 64 KiB (${refpoint.mode})`, ...refpoint },
    ...Object.entries(others).flatMap(([what, result]) => [
      { what, ...result },
      goal(`time, of ${what}`, refpoint.seconds / result.seconds, '≤', 0.5),
    ]),
    ...memoryGoal('peak memory', refpoint, 300),
  ]
}
