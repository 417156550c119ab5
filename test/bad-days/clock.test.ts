import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { changed, editManifest, expectRestores, expectSame, expectVerifies, oneImage, openScene, readManifest, takeHistory } from './scene.js'

it('orders points by their slots when the clock goes back, and finds them by their times', async () => {
  const scene = openScene(oneImage, { within: true })
  const taken = await takeHistory(scene, 131_072)
  const times = ['2026-01-31T03:00:00.000Z', '2026-01-31T02:00:00.000Z', '2026-01-31T02:30:00.000Z', '2099-01-01T00:00:00.000Z']
  for (const [index, time] of times.entries()) editManifest(scene, index + 1, (manifest) => (manifest.time = time))
  await expectVerifies(scene)
  const { stdout } = await scene.ok(['points', 'web01', '--json'])
  expect([...stdout.matchAll(/"point":\s*(\d+)/g)].map(([, point]) => point)).toEqual(['1', '2', '3', '4'])
  for (const [at, point] of [
    ['2026-01-31T02:15:00Z', 2],
    ['2026-01-31T02:45:00Z', 3],
    ['2026-01-31T03:30:00Z', 1],
    ['latest', 4],
  ] as const) {
    const folder = scene.path(`at-${point}`)
    const told = await scene.ok(['restore', 'web01', '--at', at, '--to', folder])
    expect(told.stderr).toMatch(new RegExp(`point #${point} of 'web01'`))
    expectSame(readFileSync(join(folder, 'root.raw')), taken[point - 1]?.content ?? Buffer.alloc(0), at)
  }

  // The newest point lies in the future: the next one is after it all the same.
  const content = changed(taken.at(-1)?.content ?? Buffer.alloc(0), 8)
  writeFileSync(scene.path('root.img'), content)
  await scene.ok(['backup', '--incremental'])
  expect(readManifest(scene, 5).parent).toBe(4)
  expect((await scene.ok(['show', 'web01', 'latest'])).stdout).toMatch(/#5/)
  await expectRestores(scene, { point: 5, content })
  await expectVerifies(scene)
})
