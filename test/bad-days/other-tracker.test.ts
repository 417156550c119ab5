import { cpSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { changed, contentOf, expectRestores, expectVerifies, makeFolder, openScene, readManifest, restoreWithoutRefpoint, expectSame, type Scene, type Taken } from './scene.js'

/** Noise that does not compress to nothing: 8 MiB of which two thirds are content. */
const bytes = 8 * 1024 * 1024

function configuration(tracker: 'disk' | 'image'): string {
  const store = tracker === 'disk' ? './disks/root' : './root.img'
  return `
repository: ./repository
machines:
  web01:
    tracker: ${tracker}
    stores: { root: ${store} }
`
}

/** The disk's content, wherever it is now: an image, or a tracked disk made of it. */
async function put(scene: Scene, content: Buffer, tracker: 'disk' | 'image'): Promise<void> {
  scene.configure(configuration(tracker))
  rmSync(scene.path('disks'), { recursive: true, force: true })
  writeFileSync(scene.path('root.img'), content)
  if (tracker === 'image') return
  makeFolder(scene.path('disks'))
  await scene.ok(['disk', 'import', scene.path('root.img'), scene.path('disks/root')])
}

interface Stored {
  mode: string
  reason: string
  changedBytes: number
}

function storeOf(scene: Scene, point: number): Stored {
  const [store] = readManifest(scene, point).stores as unknown as Stored[]
  if (store === undefined) throw new Error(`point #${point} has no store`)
  return store
}

it('goes on with its chain when a machine moves from one tracker to another, and stores only what differs', async () => {
  const scene = openScene(configuration('image'), { within: true })
  const taken: Taken[] = []
  let content = contentOf(1, bytes)
  await scene.ok(['init'])
  for (const [index, tracker] of (['image', 'disk', 'disk', 'image', 'disk', 'image', 'image'] as const).entries()) {
    const point = index + 1
    if (point > 1) content = changed(content, point, 301)
    await put(scene, content, tracker)
    await scene.ok(point === 1 ? ['backup'] : ['backup', '--incremental'])
    taken.push({ point, content })
    const { mode, reason, changedBytes } = storeOf(scene, point)
    expect(mode, `#${point}`).toBe(point === 1 ? 'full' : 'compared')
    expect(readManifest(scene, point).parent).toBe(point === 1 ? null : point - 1)
    if (point === 1) continue
    expect(reason).toMatch(new RegExp(`^compared with point #${point - 1}: `))
    expect(changedBytes, `#${point}`).toBeGreaterThan(0)
    expect(changedBytes, `#${point}`).toBeLessThan(bytes / 8)
  }
  await expectVerifies(scene)
  for (const point of taken) await expectRestores(scene, point)
  expectSame(await restoreWithoutRefpoint(scene.repository, 'root', 7), content, 'without refpoint')
})

it('compares a tracked disk that was put back from a copy, and tracks it again afterwards', async () => {
  const scene = openScene(configuration('disk'), { within: true })
  const content = contentOf(1, bytes)
  await put(scene, content, 'disk')
  await scene.ok(['init'])
  await scene.ok(['backup'])
  cpSync(scene.path('disks/root'), scene.path('copy'), { recursive: true })
  await scene.ok(['disk', 'checkpoint', 'kept', scene.path('disks/root')])
  await scene.ok(['backup', '--incremental'])
  await scene.ok(['disk', 'checkpoint', 'also-kept', scene.path('disks/root')])
  await scene.ok(['backup', '--incremental'])
  rmSync(scene.path('disks/root'), { recursive: true })
  renameSync(scene.path('copy'), scene.path('disks/root'))
  const { stdout } = await scene.ok(['backup', '--incremental'])
  expect(stdout).toMatch(/root compared \(compared with point #3: tracking lost: /)
  expect(storeOf(scene, 4)).toMatchObject({ mode: 'compared', changedBytes: 0 })
  expect((await scene.ok(['backup', '--incremental'])).stdout).toMatch(/root tracked/)
  await expectVerifies(scene)
  await expectRestores(scene, { point: 4, content })
  expect(readFileSync(scene.path('root.img')).equals(content)).toBe(true)
})
