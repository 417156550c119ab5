import { existsSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { acquireLease } from '../../src/repository/lease.js'
import { localRepository } from '../../src/repository/local/local-repository.js'
import { contentOf, expectTold, makeFolder, openScene, overwrite, type Scene } from './scene.js'

/** A notifier that keeps what it is told, one file for each event. */
const config = `
repository: ./repository
notify:
  - { on: [failure, warning, recovery], run: [sh, -c, 'cat > "told/$(ls told | wc -l)-$REFPOINT_EVENT.json"'] }
metrics: { textfile: ./metrics/refpoint.prom }
machines:
  web01:
    tracker: image
    stores: { root: ./root.img }
`

interface Told {
  readonly event: string
  readonly kind: string
  readonly machine: string | null
  readonly message: string
  readonly code: string | null
  readonly failures: number
  readonly text: string
}

function told(scene: Scene): Told[] {
  return readdirSync(scene.path('told'))
    .sort((a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10))
    .map((name) => JSON.parse(readFileSync(scene.path('told', name), 'utf8')) as Told)
}

async function openNight(): Promise<Scene> {
  const scene = openScene(config)
  makeFolder(scene.path('told'))
  makeFolder(scene.path('metrics'))
  writeFileSync(scene.path('root.img'), contentOf(1, 200_000))
  await scene.ok(['init'])
  return scene
}

it('tells a night that failed, the next one too, and the one that went well again', async () => {
  const scene = await openNight()
  await scene.ok(['backup'])
  expect(told(scene)).toEqual([])
  renameSync(scene.path('root.img'), scene.path('away.img'))
  expectTold(await scene.run(['backup']), 14, /root\.img/)
  expectTold(await scene.run(['backup', '--all']), 14, /root\.img/)
  renameSync(scene.path('away.img'), scene.path('root.img'))
  await scene.ok(['backup'])
  expect(told(scene)).toMatchObject([
    { event: 'failure', kind: 'backup', machine: 'web01', code: 'tracker', failures: 1 },
    { event: 'failure', kind: 'backup', machine: 'web01', code: 'tracker', failures: 2 },
    { event: 'recovery', kind: 'backup', machine: 'web01', failures: 0 },
  ])
  const metrics = readFileSync(scene.path('metrics/refpoint.prom'), 'utf8')
  expect(metrics).toContain('refpoint_backup_point{machine="web01"} 2\n')
  expect(metrics).toContain('refpoint_run_success{machine="web01",kind="backup"} 1\n')
  expect(metrics).toMatch(/^refpoint_repository_free_bytes \d+$/m)
  expect(readdirSync(scene.path('metrics'))).toEqual(['refpoint.prom'])
  expect(statSync(scene.path('metrics/refpoint.prom')).mode & 0o777).toBe(0o644)
})

it('tells that the repository is not there', async () => {
  const scene = await openNight()
  renameSync(scene.repository, scene.path('unmounted'))
  expectTold(await scene.run(['backup']), 10, /no repository/)
  expect(told(scene)).toMatchObject([{ event: 'failure', machine: null, message: expect.stringMatching(/no repository/) }])
  expect(existsSync(scene.repository)).toBe(false)
})

it('is quiet when the run before is still going, and loud when it is going the next time, too', async () => {
  const scene = await openNight()
  await scene.ok(['backup'])
  const repository = localRepository(scene.repository)
  const lease = await acquireLease(repository, 'web01', { command: 'a run that takes long' })
  const quiet = await scene.run(['backup', '--quiet-if-running'])
  expect(quiet).toEqual({ status: 11, stdout: '', stderr: '' })
  expect(told(scene)).toEqual([])
  const loud = await scene.run(['backup', '--all', '--quiet-if-running'])
  expectTold(loud, 11, /held by 'a run that takes long'/, /number 2 in a row/)
  expect(told(scene)).toMatchObject([{ event: 'warning', message: expect.stringMatching(/2 times in a row/) }])
  await lease.release()
  await scene.ok(['backup', '--quiet-if-running'])
  expect(told(scene).map(({ event }) => event)).toEqual(['warning', 'recovery'])
})

it('tells a notifier, metrics or a record that do not work, and takes the point all the same', async () => {
  const scene = await openNight()
  await scene.ok(['backup'])
  scene.configure(
    config
      .replace(/run: .*/, 'run: [/no/such/pager], timeout: 5s }')
      .replace('./metrics/refpoint.prom', './nowhere/refpoint.prom'),
  )
  overwrite(scene.path('repository/machines/web01/runs/backup.json'), 'not JSON')
  const { stdout, stderr } = await scene.ok(['backup'])
  expect(stdout).toMatch(/web01: point #2/)
  expect(stderr).toMatch(/warning: how the last backup of 'web01' went can't be read: .*runs\/backup\.json is not JSON/)
  expect(stderr).toMatch(/warning: the metrics could not be written: .*nowhere/)
  renameSync(scene.path('root.img'), scene.path('away.img'))
  const failed = await scene.run(['backup'])
  expectTold(failed, 14, /warning: a notification could not be sent: \/no\/such\/pager could not be started/)
})
