import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { acquireLease } from '../../src/repository/lease.js'
import { localRepository } from '../../src/repository/local/local-repository.js'
import { contentOf, expectTold, openScene, type Scene } from './scene.js'

/** Hooks that write down what they are told; `$1` names the hook. */
function withHooks(hooks: string): string {
  return `
repository: ./repository
machines:
  web01:
    tracker: image
    stores: { root: ./root.img }
    hooks: { ${hooks} }
`
}
const note = `[sh, -c, 'echo "$REFPOINT_HOOK $REFPOINT_MACHINE $REFPOINT_RESULT $REFPOINT_POINT $REFPOINT_ERROR_CODE" >> log; test -f refpoint.yaml && test -f "$REFPOINT_CONFIG" && test -d "$REFPOINT_REPOSITORY"']`

async function openHooked(hooks: string): Promise<Scene> {
  const scene = openScene(withHooks(hooks))
  writeFileSync(scene.path('root.img'), contentOf(1, 200_000))
  await scene.ok(['init'])
  return scene
}

const log = (scene: Scene): string[] => {
  return existsSync(scene.path('log')) ? readFileSync(scene.path('log'), 'utf8').split('\n').slice(0, -1) : []
}

it('runs a hook before and one after, and tells the one after how it went', async () => {
  const scene = await openHooked(`before: ${note}, after: ${note}`)
  await scene.ok(['backup'])
  expect(log(scene)).toEqual(['before web01   ', 'after web01 done 1 '])
  rmSync(scene.path('root.img'))
  expect((await scene.run(['backup'])).status).toBeGreaterThan(0)
  expect(log(scene).slice(2)).toEqual(['before web01   ', expect.stringMatching(/^after web01 failed {2}\w+$/)])
})

it('takes no point when the hook before fails, runs the one after all the same, and tells what it printed', async () => {
  const scene = await openHooked(`before: [sh, -c, "echo no database; exit 3"], after: ${note}`)
  expectTold(await scene.run(['backup']), 1, /hook 'before': no database/, /hook 'before' of machine 'web01' ended with status 3/, /No point was taken/)
  expect(log(scene)).toEqual(['after web01 failed  hook'])
  expect((await scene.ok(['points'])).stdout).toMatch(/web01: 0 points/)
})

it('warns of a hook after that fails or takes too long: the point is there', async () => {
  const scene = await openHooked('after: [sleep, "600"], timeout: 300ms')
  const { stdout, stderr } = await scene.ok(['backup'])
  expect(stdout).toMatch(/web01: point #1/)
  expect(stderr).toMatch(/warning: point #1 is committed, but the hook 'after' failed: .* did not end within 0\.3 s/)
  expect((await scene.ok(['backup'])).stdout).toMatch(/web01: point #2/)
})

it('runs none when the machine is locked: they would act in the midst of another run', async () => {
  const scene = await openHooked(`before: ${note}, after: ${note}`)
  await scene.ok(['backup'])
  const lease = await acquireLease(localRepository(scene.repository), 'web01', { command: 'another run' })
  expectTold(await scene.run(['backup']), 11, /another run/)
  expect(log(scene)).toHaveLength(2)
  await lease.release()
})

it('ends a hook with the run that is cancelled, and still runs the one after', async () => {
  const scene = await openHooked(`before: [sh, -c, "echo $$ > pid; exec sleep 600"], after: ${note}`)
  const running = scene.start(['backup'])
  const pidTold = (): boolean => existsSync(scene.path('pid')) && readFileSync(scene.path('pid'), 'utf8').endsWith('\n')
  while (!pidTold()) {
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  running.process.kill('SIGTERM')
  const told = await running.told
  expect(told.status, told.stderr).toBe(130)
  expect(log(scene)).toEqual(['after web01 failed  cancelled'])
  const pid = Number(readFileSync(scene.path('pid'), 'utf8'))
  expect(existsSync(`/proc/${pid}/cmdline`) && readFileSync(`/proc/${pid}/cmdline`, 'utf8').startsWith('sleep')).toBe(false)
})
