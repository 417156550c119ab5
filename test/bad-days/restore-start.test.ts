import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { diskOf, machineOf } from '../trackers/qemu/machine/document.js'
import { openScene, type Scene } from './scene.js'

/** A machine of two images whose points know this of how it is started. */
async function sceneThatKnows(document: string): Promise<Scene> {
  const scene = openScene(
    `
repository: ./repository
machines:
  web01:
    tracker: image
    stores: { root: ./root.img, data: ./data.img }
    files: { qemu/machine.json: ./machine.json }
`,
    { within: true },
  )
  for (const name of ['root', 'data']) writeFileSync(scene.path(`${name}.img`), Buffer.alloc(1 << 20, name))
  writeFileSync(scene.path('machine.json'), document)
  await scene.ok(['init'])
  await scene.ok(['backup', 'web01'])
  return scene
}

const disks = [
  diskOf('root', '/vm/a.qcow2', { drive: 'virtio0' }),
  diskOf('data', '/vm/b', { drive: 'virtio1', format: 'vmdk' }),
]
const drives = ['-drive', 'file=/vm/a.qcow2,if=virtio', '-drive', 'file=/vm/b,if=virtio']
const known = (args: readonly string[]) => JSON.stringify(machineOf(args, { disks }))
const restore = ['restore', 'web01', '--at', 'latest', '--to', 'there']

test('a whole machine comes in the formats it had, with what starts it, for its owner only', async () => {
  const scene = await sceneThatKnows(known(drives))
  const { stdout } = await scene.ok(restore)
  expect(stdout).toContain(`start it: ${scene.path('there', 'start.sh')}`)
  // What can't be written as it was comes as raw.
  expect(readdirSync(scene.path('there')).toSorted()).toEqual(['config', 'data.raw', 'root.qcow2', 'start.sh'])
  expect(statSync(scene.path('there', 'start.sh')).mode & 0o777).toBe(0o700)
  expect(statSync(scene.path('there', 'config/qemu/machine.json')).mode & 0o777).toBe(0o600)
  const script = readFileSync(scene.path('there', 'start.sh'), 'utf8')
  expect(script).toContain(`file="$folder"'/root.qcow2,if=virtio,format=qcow2'`)
  expect(script).toContain(`file="$folder"'/data.raw,if=virtio,format=raw'`)
})

test('the format that was asked for is that of all, in the script too', async () => {
  const scene = await sceneThatKnows(known(drives))
  await scene.ok([...restore, '--format', 'raw'])
  expect(readFileSync(scene.path('there', 'start.sh'), 'utf8')).toContain(`'/root.raw,if=virtio,format=raw'`)
})

test('a part of a machine is no machine that could start', async () => {
  const scene = await sceneThatKnows(known(drives))
  const { stdout } = await scene.ok([...restore, '--store', 'root', '--json'])
  expect(JSON.parse(stdout)).toMatchObject({ start: null })
  expect(readdirSync(scene.path('there')).toSorted()).toEqual(['config', 'root.qcow2'])
})

test.each([
  [
    'a command line that would have to be guessed',
    known([...drives, '-frobnicate', 'x']),
    /the option -frobnicate is not known/,
  ],
  ['what is no document of this version', '{"format": 2}', /none that this version understands/],
  ['what is no document at all', '\0', /none that this version understands/],
])('%s costs the script, and no disk', async (_, document, reason) => {
  const scene = await sceneThatKnows(document)
  const { stderr } = await scene.ok(restore)
  expect(stderr).toContain('no start.sh was made')
  expect(stderr).toMatch(reason)
  expect(existsSync(scene.path('there', 'start.sh'))).toBe(false)
  expect(readdirSync(scene.path('there')).filter((name) => /^(root|data)\./.test(name))).toHaveLength(2)
})

test('a script that is there is not written over without force', async () => {
  const scene = await sceneThatKnows(known(drives))
  await scene.ok(restore)
  writeFileSync(scene.path('there', 'start.sh'), 'mine')
  for (const name of ['root.qcow2', 'data.raw']) rmSync(scene.path('there', name))
  rmSync(scene.path('there', 'config'), { recursive: true })
  const { status, stderr } = await scene.run(restore)
  expect(status).toBe(2)
  expect(stderr).toContain('exists; nothing was restored')
  expect(readdirSync(scene.path('there'))).toEqual(['start.sh'])
  expect(readFileSync(scene.path('there', 'start.sh'), 'utf8')).toBe('mine')
  await scene.ok([...restore, '--force'])
  expect(readFileSync(scene.path('there', 'start.sh'), 'utf8')).toContain('#!/bin/sh')
})
