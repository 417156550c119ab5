import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { configFiles } from '../../src/operations/backup/config-files.js'
import { MACHINE_FILES_LIMIT, type MachineFile } from '../../src/trackers/tracker.js'
import { temporaryFolder } from '../temporary.js'

const own = (path: string, bytes = 3): MachineFile => ({ path, content: Buffer.alloc(bytes, 7) })

test('listed files come as they are now, and the machine’s own as they were', async () => {
  const listed = join(temporaryFolder(), 'vm.xml')
  writeFileSync(listed, '<domain/>')
  const files: [string, string][] = []
  for await (const { path, content } of configFiles({ 'vm.xml': listed }, [own('qemu/machine.json')])) {
    files.push([path, Buffer.from(content).toString('latin1')])
  }
  expect(files).toEqual([
    ['vm.xml', '<domain/>'],
    ['qemu/machine.json', '\u0007\u0007\u0007'],
  ])
})

test.each([
  ['the same name', { 'qemu/machine.json': '/a' }],
  ['a file where a folder is', { qemu: '/a' }],
  ['a folder where a file is', { 'qemu/machine.json/more': '/a' }],
  ['two listed ones in each other’s way', { a: '/a', 'a/b': '/b' }],
])('%s can’t be restored, so it is refused', (_what, listed) => {
  const files = () => configFiles(listed, [own('qemu/machine.json')])
  expect(files).toThrow(expect.objectContaining({ code: 'config', hint: expect.stringContaining('under \'files\'') }))
})

test('neighbours whose names begin alike are no clash', () => {
  expect(() => configFiles({ 'qemu/machine.json2': '/a', qemuX: '/b' }, [own('qemu/machine.json')])).not.toThrow()
})

test.each([
  ['files', Array.from({ length: MACHINE_FILES_LIMIT.count + 1 }, (_, index) => own(`f${index}`))],
  ['bytes', [own('a', MACHINE_FILES_LIMIT.bytes / 2), own('b', MACHINE_FILES_LIMIT.bytes / 2 + 1)]],
])('more %s of its own than is allowed are the tracker’s fault', (_what, files) => {
  expect(() => configFiles({}, files)).toThrow(expect.objectContaining({ code: 'tracker' }))
})

test('a listed file that can’t be read is told with its path', async () => {
  const missing = join(temporaryFolder(), 'gone')
  const files = configFiles({ 'vm.xml': missing }, [])[Symbol.asyncIterator]()
  await expect(files.next()).rejects.toMatchObject({ code: 'config', message: expect.stringContaining(missing) })
})
