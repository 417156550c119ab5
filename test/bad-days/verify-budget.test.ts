import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { archivePath, expectTold, oneImage, openScene, overwrite, readManifest, type Scene, takeHistory } from './scene.js'

interface Proofs {
  proven: Record<string, number>
  damaged: Record<string, { affects: number[] }>
}

function proofsPath(scene: Scene): string {
  return join(scene.repository, 'machines/web01/runs/proofs.json')
}

function proofs(scene: Scene): Proofs {
  return JSON.parse(readFileSync(proofsPath(scene), 'utf8')) as Proofs
}

/** The points that were proven, by slot. */
function proven(scene: Scene): number[] {
  const known = proofs(scene).proven
  return [1, 2, 3, 4].filter((point) => (readManifest(scene, point).archive.name.split('/').at(-1) ?? '') in known)
}

async function openHistory(): Promise<Scene> {
  const scene = openScene(oneImage, { within: true })
  await takeHistory(scene, 300_000)
  return scene
}

it('proves one point at least, goes on where it was, and begins again with the oldest', async () => {
  const scene = await openHistory()
  for (const run of [1, 2, 3, 4]) {
    const { stdout } = await scene.ok(['verify', '--all', '--budget', '1ms'])
    expect(stdout).toMatch(/verified 1 points .*nothing is damaged; 3 points are left for the next time$/m)
    expect(proven(scene)).toEqual([1, 2, 3, 4].slice(0, run))
  }
  // As if #3 had been the first to be proven.
  const known = proofs(scene)
  const third = readManifest(scene, 3).archive.name.split('/').at(-1) ?? ''
  known.proven[third] = 1000
  overwrite(proofsPath(scene), JSON.stringify(known))
  await scene.ok(['verify', '--budget', '1ms'])
  expect(proofs(scene).proven[third]).toBeGreaterThan(1000)
  await scene.ok(['verify', '--all', '--budget', '1h'])
  expect((await scene.ok(['status'])).stdout).toMatch(/ok$/m)
})

it('remembers damage until the damaged thing was found whole, also when only what builds on it is looked at', async () => {
  const scene = await openHistory()
  await scene.ok(['verify'])
  const path = archivePath(scene, 2)
  const whole = readFileSync(path)
  const flipped = Buffer.from(whole)
  flipped[flipped.length >> 1] = (flipped[flipped.length >> 1] ?? 0) ^ 1
  overwrite(path, flipped)
  expectTold(await scene.run(['verify']), 13, /web01 #2, web01 #3/)
  expect(proofs(scene).damaged).toMatchObject({ 2: { affects: [2, 3] } })
  expectTold(await scene.run(['status']), 4, /damaged: verify found points that can't be restored whole: #2, #3/, /failing: verify failed/)
  // #1 and #4 do not need it; that they are whole says nothing of it.
  await scene.ok(['verify', 'web01', '--at', '4'])
  expect(proofs(scene).damaged).toMatchObject({ 2: { affects: [2, 3] } })
  overwrite(path, whole)
  await scene.ok(['verify'])
  expect(proofs(scene).damaged).toEqual({})
  await scene.ok(['status'])
})

it('tells a record of proofs that is damaged, and begins anew', async () => {
  const scene = await openHistory()
  await scene.ok(['verify'])
  overwrite(proofsPath(scene), '{"format":1,"proven":[]}')
  const { stderr } = await scene.ok(['verify', '--budget', '1ms'])
  expect(stderr).toMatch(/warning: object .*proofs\.json is not what it should be .*counts as never verified/)
  expect(proven(scene)).toEqual([1])
})

it('does not take a quick look for a proof', async () => {
  const scene = await openHistory()
  await scene.ok(['verify', '--quick'])
  expect(existsSync(proofsPath(scene))).toBe(false)
  expectTold(await scene.run(['verify', '--budget', '5']), 2, /"5" is no time/)
  expectTold(await scene.run(['verify', '--quick', '--budget', '5s']), 2, /--budget/)
  expectTold(await scene.run(['verify', 'web01', '--all']), 2, /together with --all/)
})
