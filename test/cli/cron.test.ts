import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { expectTold, openScene } from '../bad-days/scene.js'

const config = `
repository: ./repository
defaults: { schedule: "0 3 * * *", spread: 30m }
verify: { schedule: "40 4 1 * 7", budget: 90s }
machines:
  web01: { tracker: image, stores: { root: ./a.img } }
  web02: { tracker: image, stores: { root: ./a.img }, schedule: "7 * * * *" }
  web03: { tracker: image, stores: { root: ./a.img } }
`

it('prints a line of a crontab for each schedule, machines of one schedule apart', async () => {
  const scene = openScene(config, { within: true })
  const { stdout, stderr } = await scene.ok(['cron'])
  expect(stderr).toBe('')
  const lines = stdout.trimEnd().split('\n').filter((line) => /^[\d*]/.test(line))
  const command = `\\S+  .*--config ${scene.path('refpoint.yaml')}`
  const minute = (name: string): number => {
    const line = lines.find((each) => new RegExp(`^\\d+ 3 \\* \\* \\*  ${command} backup ${name} --quiet-if-running$`).test(each))
    expect(line, `${name} in ${stdout}`).toBeDefined()
    return Number.parseInt(line ?? '', 10)
  }
  expect(minute('web01')).not.toBe(minute('web03'))
  expect(Math.max(minute('web01'), minute('web03'))).toBeLessThan(30)
  expect(lines).toContainEqual(expect.stringMatching(new RegExp(`^7 \\* \\* \\* \\*  ${command} backup web02 --quiet-if-running$`)))
  expect(lines).toContainEqual(expect.stringMatching(new RegExp(`^40 4 1 \\* 7  ${command} verify --all --budget 90s$`)))
  expect(lines).toHaveLength(4)
  expect((await scene.ok(['cron', '--personal'])).stdout).toMatch(/^7 \* \* \* \* {2}\/\S+/m)
})

it('writes paths so that neither the shell nor cron takes anything in them for its own', async () => {
  const scene = openScene(config, { within: true })
  const odd = scene.path("it's 100%")
  mkdirSync(odd)
  const { stdout } = await scene.run(['cron', '--config', `${odd}/refpoint.yaml`])
  expect(stdout).toBe('')
  scene.configure(config)
  const { writeFileSync } = await import('node:fs')
  writeFileSync(`${odd}/refpoint.yaml`, config)
  const { lines } = JSON.parse((await scene.ok(['cron', '--config', `${odd}/refpoint.yaml`, '--json'])).stdout) as { lines: string[] }
  const line = lines.find((each) => each.includes('web02')) ?? ''
  // What cron hands to the shell: without the columns of time and user, and each \% a %.
  const typed = line.split(/ {2}/).slice(2).join('  ').replaceAll('\\%', '%')
  expect(line.replaceAll('\\%', '')).not.toContain('%')
  const words = spawnSync('sh', ['-c', `printf '%s\\n' ${typed}`], { encoding: 'utf8' }).stdout.split('\n')
  expect(words).toContain(`${odd}/refpoint.yaml`)
})

it('writes units that systemd accepts', async () => {
  const scene = openScene(`${config}zone: Europe/Berlin\n`, { within: true })
  const { stdout } = await scene.ok(['cron', '--systemd', '--to', 'units'])
  expect(stdout).toMatch(/enable --now refpoint-backup@web01\.timer/)
  const names = readdirSync(scene.path('units'))
  expect(names.sort()).toEqual([
    'refpoint-backup@.service',
    'refpoint-backup@web01.timer',
    'refpoint-backup@web02.timer',
    'refpoint-backup@web03.timer',
    'refpoint-verify.service',
    'refpoint-verify.timer',
  ])
  expect(readFileSync(scene.path('units/refpoint-backup@.service'), 'utf8')).toMatch(/^ExecStart=\/.* backup %i --quiet-if-running$/m)
  expect(readFileSync(scene.path('units/refpoint-verify.timer'), 'utf8').match(/^OnCalendar=.*Europe\/Berlin$/gm)).toHaveLength(2)
  const verify = spawnSync('systemd-analyze', ['verify', ...names.map((name) => scene.path('units', name.replace('@.', '@web01.')))], { encoding: 'utf8' })
  if (verify.error === undefined) expect(verify.stderr).not.toMatch(/refpoint-/)
})

it('says that there is nothing to do where there is no schedule, and what is wrong with one', async () => {
  const scene = openScene(config.replace(/schedule: "[^"]*",? ?/g, ''), { within: true })
  expectTold(await scene.run(['cron']), 2, /has no schedule/, /schedule: "0 3 \* \* \*"/)
  scene.configure(config.replace('7 * * * *', '7 25 * * *'))
  expectTold(await scene.run(['cron']), 2, /web02\.schedule: expected five fields .*"25" is no hour/)
})
