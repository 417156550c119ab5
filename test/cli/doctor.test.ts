import { mkdirSync, writeFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { openScene, type Scene } from '../bad-days/scene.js'

interface Finding {
  readonly level: string
  readonly topic: string
  readonly message: string
}

async function findings(scene: Scene, machine: string): Promise<string[]> {
  const { stdout } = await scene.ok(['doctor', machine, '--json'])
  const { findings: found } = JSON.parse(stdout) as { readonly findings: readonly Finding[] }
  return found.map(({ level, topic, message }) => `${level} ${topic}: ${message}`)
}

function sceneOfTwo(): Scene {
  const scene = openScene(
    `
repository: ./repository
machines:
  web01: { tracker: disk, stores: { root: ./disks/root } }
  db01: { tracker: image, stores: { root: ./root.img } }
`,
    { within: true },
  )
  writeFileSync(scene.path('root.img'), Buffer.alloc(1 << 20, 7))
  mkdirSync(scene.path('disks'))
  return scene
}

test('the doctor tries a checkpoint of disks and images, and says what the next backup would do', async () => {
  const scene = sceneOfTwo()
  await scene.ok(['disk', 'create', scene.path('disks/root'), '--size', '8MiB'])
  await scene.ok(['init'])
  const offline = 'good checkpoint: a checkpoint can be taken: one instant of 1 disks, consistency offline'
  const unknown = 'note repository: it was never backed up: the first point will be a full'
  expect(await findings(scene, 'web01')).toEqual([
    offline,
    'good tracking: root: tracked; the first point is a full',
    unknown,
  ])
  const compared = 'note tracking: root: nothing tracks it: all of it is read each time, and compared'
  expect(await findings(scene, 'db01')).toEqual([offline, compared, unknown])

  await scene.ok(['backup', '--all'])
  expect(await findings(scene, 'web01')).toEqual([
    offline,
    'good tracking: root: tracked since point #1',
    expect.stringMatching(/^good points: the last of 1 points is #1, of .*, offline$/),
  ])
  // What it looked at is backed up as if it had not.
  expect((await scene.ok(['backup', 'web01'])).stdout).toContain('root tracked (changes since point #1)')
})

test('problems make it fail, and are told as fields too', async () => {
  const scene = sceneOfTwo()
  const missing = await scene.run(['doctor', 'db01'])
  expect(missing.status).toBe(14)
  expect(missing.stdout).toMatch(/PROBLEM +there is no repository/)
  const json = await scene.run(['doctor', 'db01', '--json'])
  expect(json).toMatchObject({ status: 14, stdout: '' })
  const last = JSON.parse(json.stderr.trim().split('\n').at(-1) ?? '') as { readonly fields: object }
  expect(last.fields).toMatchObject({ machine: 'db01', fixed: [], findings: expect.any(Array) })
  expect((await scene.run(['doctor', 'web01'])).status).toBe(14)
  expect((await scene.run(['doctor'])).status).toBe(2)
  expect((await scene.run(['doctor', 'nobody'])).status).toBe(2)
})
