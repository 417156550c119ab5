import { execFileSync } from 'node:child_process'
import { chmodSync, chownSync, closeSync, existsSync, mkdirSync, openSync, readFileSync, statSync, truncateSync, writeFileSync, writeSync } from 'node:fs'
import { expect, it, onTestFinished } from 'vitest'
import { describeWith } from '../layers.js'
import { contentOf, expectRestores, expectSame, expectTold, filesBelow, oneImage, openScene, takeHistory } from './scene.js'

const asRoot = process.getuid?.() === 0
const asNobody = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups']

it('overwrites nothing without being told to, and then all of it', async () => {
  const scene = openScene(`${oneImage}    files: { vm.xml: ./vm.xml }\n`, { within: true })
  writeFileSync(scene.path('vm.xml'), '<domain/>')
  const [first, second] = await takeHistory(scene, 300_032)
  if (first === undefined || second === undefined) throw new RangeError()
  const to = ['restore', 'web01', '--to', scene.path('there'), '--at']
  await scene.ok([...to, '1'])
  const found = readFileSync(scene.path('there', 'root.raw'))
  expectSame(found, first.content, 'point #1')
  expectTold(await scene.run([...to, '2']), 2, /root\.raw exists/, /nothing was restored/, /--force/)
  expectSame(readFileSync(scene.path('there', 'root.raw')), first.content, 'left alone')
  await scene.ok([...to, '2', '--force'])
  expectSame(readFileSync(scene.path('there', 'root.raw')), second.content, 'replaced')

  // A file of the configuration in the way is found before anything is written.
  mkdirSync(scene.path('other', 'config'), { recursive: true })
  writeFileSync(scene.path('other', 'config', 'vm.xml'), 'mine')
  expectTold(await scene.run(['restore', 'web01', '--to', scene.path('other'), '--at', '1']), 2, /vm\.xml exists/)
  expect(filesBelow(scene.path('other'))).toEqual(['config/vm.xml'])
  expect(readFileSync(scene.path('other', 'config', 'vm.xml'), 'utf8')).toBe('mine')

  expectTold(await scene.run(['restore', 'web01', '--at', '1']), 2, /--to/, /--write-to/)
  mkdirSync(scene.path('folder', 'root.raw'), { recursive: true })
  expectTold(await scene.run(['restore', 'web01', '--at', '1', '--to', scene.path('folder'), '--force']), 2, /not a file/)
})

it('writes holes and zeroes onto what was there before', async () => {
  const scene = openScene(oneImage, { within: true })
  await scene.ok(['init'])
  // Zeroes, a piece of content, a hole, and a last sector.
  const content = Buffer.alloc(6 * 1024 * 1024 + 512)
  contentOf(3, 200_192).copy(content, 1_000_448)
  content.fill(0x5a, content.length - 512)
  const file = openSync(scene.path('root.img'), 'w')
  writeSync(file, content.subarray(1_000_448, 1_200_640), 0, 200_192, 1_000_448)
  writeSync(file, content.subarray(-512), 0, 512, content.length - 512)
  closeSync(file)
  await scene.ok(['backup'])
  // Content that becomes zeroes is restored as zeroes.
  content.fill(0, 1_048_576, 1_114_112)
  writeFileSync(scene.path('root.img'), content)
  await scene.ok(['backup'])
  for (const bytes of [content.length, content.length + 65_536, 4096]) {
    const target = scene.path('target')
    writeFileSync(target, Buffer.alloc(bytes, 0xff))
    const args = ['restore', 'web01', '--at', '2', '--write-to', target]
    expectTold(await scene.run(args), 2, /exists/, /--force/)
    expect(readFileSync(target).every((byte) => byte === 0xff)).toBe(true)
    await scene.ok([...args, '--force'])
    expectSame(readFileSync(target), content, `onto ${bytes} bytes of 0xFF`)
  }
  await scene.ok(['restore', 'web01', '--at', '2', '--write-to', scene.path('new')])
  expectSame(readFileSync(scene.path('new')), content, 'onto a new file')
})

it('restores sparse', async () => {
  const scene = openScene(oneImage, { within: true })
  await scene.ok(['init'])
  const bytes = 512 * 1024 * 1024
  const content = contentOf(1, 1024 * 1024)
  writeFileSync(scene.path('root.img'), content)
  truncateSync(scene.path('root.img'), bytes)
  await scene.ok(['backup'])
  await scene.ok(['restore', 'web01', '--at', 'latest', '--to', scene.path('there')])
  const { size, blocks } = statSync(scene.path('there', 'root.raw'))
  expect(size).toBe(bytes)
  expect(blocks * 512).toBeLessThan(2 * content.length)
  expectSame(readFileSync(scene.path('there', 'root.raw')).subarray(0, content.length), content, 'the content')
})

it('says what it can not reach on the way to a target', async () => {
  const scene = openScene(oneImage, { within: true })
  const [first] = await takeHistory(scene, 65_536)
  writeFileSync(scene.path('file'), '')
  const at = ['restore', 'web01', '--at', '1']
  expectTold(await scene.run([...at, '--to', scene.path('file', 'there')]), 1, /ENOTDIR|not a folder/)
  expectTold(await scene.run([...at, '--write-to', scene.path('nowhere', 'there')]), 1, /nowhere/, /Check the path/)
  expectTold(await scene.run([...at, '--write-to', scene.folder, '--force']), 2, /neither a file nor a block device/)
  if (first !== undefined) await expectRestores(scene, first)
})

it.skipIf(!asRoot)('tells permission denied, and does nothing (needs root)', async () => {
  const scene = openScene()
  chmodSync(scene.folder, 0o755)
  const [first] = await takeHistory(scene, 65_536)
  if (first === undefined) throw new RangeError()
  const before = filesBelow(scene.repository)
  for (const args of [['backup'], ['points'], ['verify'], ['restore', 'web01', '--at', '1', '--to', 'there']]) {
    expectTold(await scene.run(args, { through: asNobody }), 1, /permission denied/, /the user that runs refpoint/)
  }
  expect(filesBelow(scene.repository)).toEqual(before)
  expect(existsSync(scene.path('there'))).toBe(false)

  // The repository may be read, and the target may not be written.
  execFileSync('chmod', ['-R', 'a+rX', scene.repository])
  mkdirSync(scene.path('there'), { mode: 0o755 })
  const restore = ['restore', 'web01', '--at', '1', '--to', 'there']
  expectTold(await scene.run(restore, { through: asNobody }), 1, /permission denied/, /there/)
  expect(filesBelow(scene.path('there'))).toEqual([])
  chownSync(scene.path('there'), 65_534, 65_534)
  const told = await scene.run(restore, { through: asNobody })
  expect(told.status, told.stderr).toBe(0)
  expectSame(readFileSync(scene.path('there', 'root.raw')), first.content, 'as nobody')

  // The image may not be read: the tracker says so.
  chmodSync(scene.path('root.img'), 0o600)
  execFileSync('chown', ['-R', '65534:65534', scene.repository])
  expectTold(await scene.run(['backup'], { through: asNobody }), 14, /root\.img may not be read by this user/, /Run as root/)
  await scene.ok(['backup'])
  await scene.ok(['verify'])
})

describeWith(['loop-xfs'], 'block devices', () => {
  it('are not written when they are too small, and wholly when they are large enough', async () => {
    const scene = openScene(oneImage, { within: true })
    const [first] = await takeHistory(scene, 3 * 1024 * 1024)
    if (first === undefined) throw new RangeError()
    const device = (name: string, bytes: number): string => {
      writeFileSync(scene.path(name), Buffer.alloc(bytes, 0xff))
      const path = execFileSync('losetup', ['--find', '--show', scene.path(name)], { encoding: 'utf8' }).trim()
      onTestFinished(() => void execFileSync('losetup', ['--detach', path]))
      return path
    }
    const small = device('small', 2 * 1024 * 1024)
    const large = device('large', 4 * 1024 * 1024)
    const args = ['restore', 'web01', '--at', '1', '--write-to']
    expectTold(await scene.run([...args, small, '--force']), 2, /2097152 bytes/, /3145728/, /nothing was written/)
    expect(readFileSync(small).every((byte) => byte === 0xff)).toBe(true)
    expectTold(await scene.run([...args, large]), 2, /exists/, /--force/)
    await scene.ok([...args, large, '--force'])
    expectSame(readFileSync(large).subarray(0, first.content.length), first.content, 'the device')
  })
})
