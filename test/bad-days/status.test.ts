import { readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { acquireLease } from '../../src/repository/lease.js'
import { localRepository } from '../../src/repository/local/local-repository.js'
import { contentOf, editManifest, expectTold, openScene, overwrite, type Scene } from './scene.js'

const config = `
repository: ./repository
machines:
  web01:
    tracker: image
    stores: { root: ./root.img }
    schedule: "0 3 * * *"
`

async function backedUp(text = config): Promise<Scene> {
  const scene = openScene(text, { within: true })
  writeFileSync(scene.path('root.img'), contentOf(1, 200_000))
  await scene.ok(['init'])
  await scene.ok(['backup'])
  return scene
}

it('is one screen, and status 0 when all is well', async () => {
  const scene = await backedUp()
  const { stdout, stderr } = await scene.ok(['status'])
  expect(stderr).toBe('')
  expect(stdout).toMatch(/^.*repository, .* free, grows by/)
  expect(stdout).toMatch(/web01 +#1 .* offline .* never .* ok$/m)
  const { machines } = JSON.parse((await scene.ok(['status', '--json'])).stdout) as { machines: { machine: string; alarms: unknown[] }[] }
  expect(machines).toMatchObject([{ machine: 'web01', points: 1, alarms: [], running: null }])
})

it('says what runs at this moment', async () => {
  const scene = await backedUp()
  const lease = await acquireLease(localRepository(scene.repository), 'web01', { command: 'a run that takes long' })
  expect((await scene.ok(['status'])).stdout).toMatch(new RegExp(`running since .*\\(pid ${process.pid} on`))
  await lease.release()
  expect((await scene.ok(['status'])).stdout).not.toMatch(/running/)
})

it('exits with 4 and says why when somebody should look, and tells programs both', async () => {
  const both = openScene(`${config}  db01:\n    tracker: image\n    stores: { root: ./root.img }\n    schedule: "0 3 * * *"\n`, { within: true })
  writeFileSync(both.path('root.img'), contentOf(1, 200_000))
  await both.ok(['init'])
  await both.ok(['backup', 'web01'])
  expectTold(await both.run(['status']), 4, /db01: never: it was never backed up/, /look at 'db01': 1 alarms/)
  const { status, stdout, stderr } = await both.run(['status', '--json'])
  expect(status).toBe(4)
  expect(JSON.parse(stdout)).toMatchObject({ machines: [{ machine: 'db01', alarms: [{ alarm: 'never' }] }, { machine: 'web01' }] })
  expect(JSON.parse(stderr.trim().split('\n').at(-1) ?? '')).toMatchObject({ type: 'error', code: 'attention', exitStatus: 4 })
})

it('is not fooled by a repository whose archives are gone, whose points are gone, or whose records are damaged', async () => {
  const scene = await backedUp()
  const folder = join(scene.repository, 'machines/web01')
  overwrite(join(folder, 'runs/backup.json'), '{')
  overwrite(join(folder, 'runs/proofs.json'), '[]')
  expectTold(await scene.run(['status']), 4, /record: .*backup\.json is not JSON/, /record: .*proofs\.json/)
  await scene.ok(['backup'])
  rmSync(join(folder, 'runs/proofs.json'))
  await scene.ok(['status'])
  const [archive = ''] = readdirSync(join(folder, 'archives')).sort()
  rmSync(join(folder, 'archives', archive))
  expectTold(await scene.run(['status']), 4, /damaged: 1 archives are missing/)
  for (const name of readdirSync(join(folder, 'points'))) rmSync(join(folder, 'points', name))
  expectTold(await scene.run(['status']), 4, /damaged: there are 1 archives, and no points/)
})

it('tells a backup that is overdue, and a clock that was wrong', async () => {
  const scene = await backedUp()
  const time = (days: number): string => new Date(Date.now() + days * 86_400_000).toISOString()
  editManifest(scene, 1, (manifest) => Object.assign(manifest, { time: time(-3), startedAt: time(-3) }))
  expectTold(await scene.run(['status']), 4, /web01: overdue: its last point is #1; the next was due/)
  editManifest(scene, 1, (manifest) => Object.assign(manifest, { time: time(3), startedAt: time(3) }))
  expectTold(await scene.run(['status']), 4, /web01: clock: point #1 is of the future/)
})
