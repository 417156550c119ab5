import { readFileSync, rmSync } from 'node:fs'
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

it('restores without the record of a machine, but makes no new one that would disown its points', async () => {
  const scene = openScene(oneImage, { within: true })
  const taken = await takeHistory(scene, 131_072)
  const path = join(scene.repository, 'machines/web01/machine.json')
  const record = readFileSync(path, 'utf8')
  for (const [damage, substance] of [
    ['is another', /is of machine 'web02'/],
    ['is no JSON', /machine\.json/],
    ['is gone', /record of machine 'web01' is missing/],
  ] as const) {
    if (damage === 'is gone') rmSync(path)
    else overwrite(path, damage === 'is another' ? record.replace('"web01"', '"web02"') : '{')
    expectTold(await scene.run(['backup']), 13, substance)
    const verified = await scene.run(['verify'])
    expectTold(verified, 13, substance, /1 damaged things, 0 points affected/)
    expectTold(await scene.run(['points', 'web01']), 13, substance)
    for (const entry of taken) await expectRestores(scene, entry)
    overwrite(path, record)
  }
  await scene.ok(['backup', '--incremental'])
  await expectVerifies(scene)
})

it('says how to go on when the record of a lease is damaged, and lets everybody read', async () => {
  const scene = openScene(oneImage, { within: true })
  const [first] = await takeHistory(scene, 65_536)
  const locks = join(scene.repository, 'machines/web01/locks')
  overwrite(join(locks, 'lease-00000099.json'), 'not JSON')
  expectTold(await scene.run(['backup']), 13, /lease-00000099\.json/, /no backup of this machine is running.*remove the folder machines\/web01\/locks/)
  if (first !== undefined) await expectRestores(scene, first)
  await expectVerifies(scene)
  rmSync(locks, { recursive: true })
  expect((await scene.ok(['backup', '--incremental'])).stdout).toMatch(/point #5/)
  await expectVerifies(scene)
})
