import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { expectRestores, expectTold, expectVerifies, oneImage, openScene, overwrite, takeHistory } from './scene.js'

it('keeps two hosts apart that both call their machine web01, until one is told to take it over', async () => {
  const scene = openScene(oneImage, { within: true })
  const taken = await takeHistory(scene, 131_072)
  const path = join(scene.repository, 'machines/web01/machine.json')
  const mine = readFileSync(path, 'utf8')
  const record = JSON.parse(mine) as Record<string, unknown>
  overwrite(path, JSON.stringify({ ...record, hostId: '0'.repeat(32), host: 'elsewhere' }))

  expectTold(await scene.run(['backup']), 2, /machine 'web01'.*another host \(elsewhere\)/, /another name/, /--adopt/)
  const [first, , , fourth] = taken
  if (first === undefined || fourth === undefined) throw new RangeError('four points were taken')
  // Whoever only reads is not asked who he is: on the bad day the host is another one.
  await expectRestores(scene, first)
  await expectVerifies(scene)

  await scene.ok(['backup', '--adopt'])
  expect(JSON.parse(readFileSync(path, 'utf8'))).toEqual(record)
  await scene.ok(['backup'])
  await expectRestores(scene, { point: 6, content: fourth.content })
  await expectVerifies(scene)
})

it('says so when the record of a machine is lost or is another one, and restores all the same', async () => {
  const scene = openScene(oneImage, { within: true })
  const [first] = await takeHistory(scene, 131_072)
  const path = join(scene.repository, 'machines/web01/machine.json')
  const record = readFileSync(path, 'utf8')
  overwrite(path, record.replace('"web01"', '"web02"'))
  expectTold(await scene.run(['backup']), 13, /machine\.json/, /web02/)
  overwrite(path, '{')
  expectTold(await scene.run(['backup']), 13, /machine\.json/)
  expectTold(await scene.run(['verify']), 13, /machine\.json/)
  overwrite(path, record)
  if (first !== undefined) await expectRestores(scene, first)
  await expectVerifies(scene)
})
