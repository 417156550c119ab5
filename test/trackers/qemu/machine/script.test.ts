import { spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { planStart } from '../../../../src/trackers/qemu/machine/start/rewrite.js'
import { startScript } from '../../../../src/trackers/qemu/machine/start/script.js'
import { parseOptionValue, formatOptionValue } from '../../../../src/trackers/qemu/machine/start/option-value.js'
import { temporaryFolder } from '../../../temporary.js'
import { diskOf, machineOf } from './document.js'

/** Runs the script with a program that prints its arguments instead of QEMU. */
function argumentsOf(folder: string, args: readonly string[], more: readonly string[] = []) {
  const disks = [diskOf('root', '/vm/a.qcow2', { drive: 'virtio0' })]
  const document = machineOf(args, { disks, name: 'evil\nname; touch pwned' })
  const plan = planStart(document, [{ store: 'root', file: 'root.raw', format: 'raw' }])
  const script = startScript(document, plan, { point: 2, time: '2026-01-31' })
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, 'start.sh'), script, { mode: 0o700 })
  const print = join(folder, 'print')
  writeFileSync(print, '#!/bin/sh\nprintf "%s\\0" "$@"\n', { mode: 0o700 })
  const env = { PATH: process.env['PATH'], QEMU: print }
  const { status, stdout, stderr } = spawnSync(join(folder, 'start.sh'), more, { encoding: 'utf8', env, cwd: '/' })
  return { status, stderr, script, given: stdout.split('\0').slice(0, -1) }
}

test('every argument reaches QEMU as it was, whatever is in it', () => {
  const odd = [
    "it's",
    'a b',
    '',
    '"$(id)"',
    '`id`',
    '\\',
    'line\nbreak',
    '*',
    '~',
    '#',
    'ü€',
    '$folder',
    '!x',
    '-',
    "''",
  ]
  const args = odd.flatMap((text) => ['-append', text])
  const { given, stderr } = argumentsOf(join(temporaryFolder(), 'vm'), args, ['-display', 'a b'])
  expect(stderr).toBe('')
  expect(given).toEqual([...args, '-display', 'a b'])
})

test('files are found from wherever the folder was moved to', () => {
  const folder = join(temporaryFolder(), "moved here, no: it's")
  const refused = argumentsOf(folder, [])
  expect(refused.status).toBe(2)
  expect(refused.stderr).toContain('without commas')
  const fine = join(temporaryFolder(), "it's here")
  const { given } = argumentsOf(fine, ['-drive', 'file=/vm/a.qcow2,if=virtio', '-qmp', 'unix:/q,server=on'])
  expect(given).toEqual([
    '-drive',
    `file=${fine}/root.raw,if=virtio,format=raw`,
    '-qmp',
    `unix:${fine}/run/q,server=on`,
  ])
})

test('nothing of the original gets out of a comment', () => {
  const folder = join(temporaryFolder(), 'vm')
  const { script, status } = argumentsOf(folder, ['-kernel', '/boot/a\ntouch pwned\r\u2028touch pwned'])
  expect(status).toBe(0)
  const comments = script.split(/[\n\r\u2028]/).slice(0, script.split('\n').indexOf('set -eu'))
  expect(comments.filter((line) => !line.startsWith('#'))).toEqual([])
})

test('values of options come apart and together again as QEMU reads them', () => {
  for (const text of [
    'a',
    'a=b',
    'a=b,,c,d',
    'file=/x,,,,y,if=virtio',
    'unix:/p,server,nowait',
    'k=',
    'k==v',
    'a=b=c,,',
  ]) {
    expect(formatOptionValue(parseOptionValue(text))).toBe(text)
  }
  expect(parseOptionValue('file=/a,,b,ro')).toEqual([{ key: 'file', value: '/a,b' }, { word: 'ro' }])
})
