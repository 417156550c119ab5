import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, it } from 'vitest'
import { restorePoint } from '../../src/operations/restore/restore.js'
import { verify } from '../../src/operations/verify/verify.js'
import { readManifests } from '../../src/repository/manifests.js'
import { describeWith } from '../layers.js'
import { temporaryFolder } from '../temporary.js'
import { Random } from '../trackers/disk/random.js'
import { operations } from './operations.js'
import { World } from './world.js'

const signal = new AbortController().signal
const oracle = resolve(import.meta.dirname, '../../samples/restore-without-refpoint.py')

async function live(seed: number, steps: number): Promise<{ world: World; story: string[] }> {
  const dice = new Random(seed)
  const blockBytes = dice.pick([4096, 16_384, 65_536])
  const sizes = { root: (1 + dice.below(3000)) * 512, data: (1 + dice.below(3000)) * 512 }
  const world = await World.create(temporaryFolder(), sizes, blockBytes)
  const story = [`seed ${seed}, blocks of ${blockBytes}, root ${sizes.root}, data ${sizes.data}`]
  const weights = operations.reduce((sum, [weight]) => sum + weight, 0)
  for (let step = 0; step < steps; step++) {
    let drawn = dice.below(weights)
    const [, name, run] = operations.find(([weight]) => (drawn -= weight) < 0) ?? operations[0] ?? []
    if (run === undefined) throw new RangeError('nothing to do')
    try {
      story.push(`${step} ${name} ${(await run(world, dice)) ?? ''}`)
    } catch (error) {
      throw new Error(`${name} failed after:\n${story.join('\n')}`, { cause: error })
    }
  }
  await world.backup({ request: 'auto' })
  return { world, story }
}

async function check(world: World, story: readonly string[]): Promise<void> {
  const { points, problems } = await readManifests(world.environment.repository, 'machine')
  expect(problems).toEqual([])
  expect(points.map((point) => point.point)).toEqual([...world.points.keys()])
  for (const point of points) {
    const folder = join(world.folder, `restored-${point.point}`)
    const request = {
      point,
      points,
      stores: undefined,
      to: { folder },
      format: undefined,
      force: false,
      concurrentStores: 2,
    }
    await restorePoint(world.environment, request, { signal })
    for (const name of world.names) {
      const expected = world.points.get(point.point)?.[name]
      const told = () => `point #${point.point}, ${name} after:\n${story.join('\n')}`
      if (expected === undefined) throw new Error(`nothing is known of ${told()}`)
      expect(difference(readFileSync(join(folder, `${name}.raw`)), expected), told()).toBeUndefined()
      const image = join(folder, `${name}.oracle`)
      const repository = join(world.folder, 'repository')
      execFileSync('python3', [oracle, name, image, '--repository', repository, 'machine', String(point.point)])
      expect(difference(readFileSync(image), expected), `the other reader: ${told()}`).toBeUndefined()
    }
  }
  const report = await verify(world.environment, { machine: undefined, point: undefined, quick: false }, { signal })
  expect(report.findings).toEqual([])
  expect(report.points).toBe(points.length)
}

/** Where two contents differ first; undefined when they are equal. */
function difference(found: Buffer, expected: Buffer): string | undefined {
  if (found.equals(expected)) return undefined
  if (found.length !== expected.length) return `${found.length} bytes instead of ${expected.length}`
  const at = found.findIndex((byte, i) => byte !== expected[i])
  return `byte ${at} is ${found[at]} instead of ${expected[at]}`
}

const seeds = process.env['REFPOINT_SEED']
  ? [Number(process.env['REFPOINT_SEED'])]
  : Array.from({ length: Number(process.env['REFPOINT_RUNS'] ?? 3) }, () => Math.floor(Math.random() * 2 ** 31))

describeWith(['python3', 'zstd'], 'any sequence of operations', () => {
  it.each(seeds)('restores every point to the disks as they were, by both readers (REFPOINT_SEED=%d)', async (seed) => {
    const { world, story } = await live(seed, 60)
    try {
      await check(world, story)
    } finally {
      await world.close()
    }
  })
})
