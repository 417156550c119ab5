import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { contentOf, expectTold, openScene } from './scene.js'

const machines = (hooks: string): string => {
  const one = `tracker: image, stores: { root: ./root.img }, hooks: { ${hooks} }`
  return ['web01', 'web02', 'web03'].map((name) => `  ${name}: { ${one} }`).join('\n')
}

/** Two that are inside at once can't both make the folder. */
const alone = 'before: [mkdir, busy], after: [rmdir, busy]'

it.each(['host: 1', 'repository: 1', 'device: 1'])('backs up machines one after the other with %s', async (limit) => {
  const scene = openScene(`
repository: ./repository
defaults: { concurrency: { machines: 3 } }
limits: { ${limit} }
machines:
${machines(alone)}
`)
  for (const name of ['root.img']) writeFileSync(scene.path(name), contentOf(1, 300_000))
  await scene.ok(['init'])
  // Two commands at once: the limit is of the host, not of a process. Machines that are locked are told.
  const [first, second] = await Promise.all([scene.run(['backup', 'web01', 'web02', 'web03']), scene.run(['backup', 'web01', 'web02', 'web03'])])
  for (const told of [first, second]) expect(told?.stderr ?? '').not.toMatch(/hook/)
  expect([first?.status, second?.status]).toContain(0)
  expect(existsSync(scene.path('busy'))).toBe(false)
})

it('lets others go first: in the processor and on the disk, in every thread', async () => {
  const scene = openScene(`
repository: ./repository
limits: { nice: 7, ionice: idle, read: 100MiB, write: 100MiB }
machines:
  web01: { tracker: image, stores: { root: ./root.img }, hooks: { before: [sh, -c, "nice > nice; ionice -p $$ > ionice; for t in /proc/$PPID/task/*; do cut -d' ' -f19 $t/stat; done | sort -u > threads"] } }
`)
  writeFileSync(scene.path('root.img'), contentOf(1, 3_000_000))
  await scene.ok(['init'])
  const { stderr } = await scene.ok(['backup'])
  expect(readFileSync(scene.path('nice'), 'utf8')).toBe('7\n')
  expect(readFileSync(scene.path('threads'), 'utf8')).toBe('7\n')
  if (!/ionice could not be started/.test(stderr)) expect(readFileSync(scene.path('ionice'), 'utf8')).toMatch(/^idle/)
  await scene.ok(['verify'])
})

it('says what a limit may be', async () => {
  const scene = openScene(`
repository: ./repository
limits: { nice: 30, read: 10KiB, ionice: realtime }
machines: { web01: { tracker: image, stores: { root: ./root.img } } }
`)
  expectTold(await scene.run(['backup']), 2, /limits\.nice: expected a whole number from 0 to 19/, /limits\.read: expected at least 1MiB/, /limits\.ionice: expected "idle"/)
})

it('copies no faster into another repository than the limit says', async () => {
  const scene = openScene(`
repository: ./repository
repositories: { offsite: ./offsite }
limits: { write: 1MiB }
machines: { web01: { tracker: image, stores: { root: ./root.img } } }
`)
  writeFileSync(scene.path('root.img'), randomBytes(3 * 1024 * 1024))
  await scene.ok(['init'])
  await scene.ok(['init', scene.path('offsite')])
  await scene.ok(['backup'])
  const started = performance.now()
  await scene.ok(['copy', '--to', 'offsite'])
  // What is charged last is not waited for.
  expect(performance.now() - started).toBeGreaterThan(1950)
  await scene.ok(['verify', '--repository', scene.path('offsite')])
})
