import { closeSync, existsSync, openSync, readdirSync, readFileSync, readSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import {
  changed,
  contentOf,
  expectRestores,
  expectSame,
  expectTold,
  expectVerifies,
  filesBelow,
  oneImage,
  openScene,
  type Running,
  type Scene,
} from './scene.js'

const bytes = 48 * 1024 * 1024
/** So much work that the run is there when it is looked for. */
const slow = `${oneImage}    compression: { level: 19 }\n`
const quick = oneImage

/** Waits for a state of the files, and holds the process there, so that nothing depends on who is faster. */
async function holdWhen({ process: child }: Running, seen: () => boolean): Promise<number> {
  const { pid } = child
  if (pid === undefined) throw new Error('the program did not start')
  while (!seen()) {
    if (child.exitCode !== null) throw new Error('the program ended before it was looked for')
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
  process.kill(pid, 'SIGSTOP')
  expect(seen(), 'it was over before it was held').toBe(true)
  return pid
}

/** The archive is being written: it has no name yet. */
const writing = (scene: Scene) => () => {
  const folder = join(scene.repository, 'machines/web01/archives')
  return existsSync(folder) && readdirSync(folder).some((name) => !name.endsWith('.tar.zst'))
}

it.each(['SIGINT', 'SIGTERM'] as const)('ends on %s during a backup: 130, nothing half left, the lock free at once', async (signal) => {
  const scene = openScene(quick, { within: true })
  await scene.ok(['init'])
  const first = contentOf(1, bytes)
  writeFileSync(scene.path('root.img'), first)
  await scene.ok(['backup'])
  const before = filesBelow(join(scene.repository, 'machines/web01')).filter((name) => !/^(locks|runs)\//.test(name))
  const second = changed(first, 2, 3)
  writeFileSync(scene.path('root.img'), second)

  scene.configure(slow)
  const running = scene.start(['backup'])
  const pid = await holdWhen(running, writing(scene))
  process.kill(pid, signal)
  process.kill(pid, 'SIGCONT')
  const told = await running.told
  expectTold(told, 130, new RegExp(`cancelled by ${signal}`), /nothing is lost/)
  expect(told.stdout).toBe('')
  const after = filesBelow(join(scene.repository, 'machines/web01')).filter((name) => !/^(locks|runs)\//.test(name))
  expect(after).toEqual(before)

  scene.configure(quick)
  expect((await scene.ok(['backup', '--incremental'])).stdout).toMatch(/#2/)
  await expectRestores(scene, { point: 1, content: first })
  await expectRestores(scene, { point: 2, content: second })
  await expectVerifies(scene)
})

/**
 * Interrupts a restore in its midst. One that was over before the signal could reach it has kept its word: it is tried
 * again.
 */
async function interrupted(scene: Scene, args: readonly string[], seen: () => boolean, signal: NodeJS.Signals, again: () => void) {
  for (let attempt = 1; ; attempt += 1) {
    again()
    const running = scene.start(args)
    const pid = await holdWhen(running, seen).catch(() => undefined)
    if (pid !== undefined) {
      process.kill(pid, signal)
      process.kill(pid, 'SIGCONT')
    }
    const told = await running.told
    if (told.status !== 0 || attempt === 10) return told
  }
}

it.each(['SIGINT', 'SIGTERM'] as const)('ends on %s during a restore: 130, and no file that looks whole', async (signal) => {
  const scene = openScene(oneImage, { within: true })
  await scene.ok(['init'])
  const content = contentOf(1, bytes * 3)
  writeFileSync(scene.path('root.img'), content)
  await scene.ok(['backup'])
  const there = scene.path('there')
  const toFolder = ['restore', 'web01', '--at', 'latest', '--to', there]
  const partial = (): boolean => filesBelow(there).some((name) => name.includes('partial'))
  const told = await interrupted(scene, toFolder, partial, signal, () => rmSync(there, { recursive: true, force: true }))
  expectTold(told, 130, new RegExp(`cancelled by ${signal}`))
  expect(filesBelow(there)).toEqual([])

  // In place, there is a file that was there before: what is left of it can't be taken for the disk.
  const target = scene.path('target')
  const args = ['restore', 'web01', '--at', 'latest', '--write-to', target, '--force']
  const begun = (): boolean => readFirst(target) !== 0xff
  const inPlace = await interrupted(scene, args, begun, signal, () => writeFileSync(target, Buffer.alloc(content.length, 0xff)))
  expectTold(inPlace, 130, new RegExp(`cancelled by ${signal}`))
  expect(readFileSync(target).length).toBe(0)

  await scene.ok(args)
  expectSame(readFileSync(target), content, 'in place')
  await expectRestores(scene, { point: 1, content })
})

function readFirst(path: string): number | undefined {
  const file = openSync(path, 'r')
  const [byte] = readSync(file, first, 0, 1, 0) === 1 ? first : []
  closeSync(file)
  return byte
}

const first = Buffer.alloc(1)

it('lets one of two backups of a machine run, and tells the other who does', async () => {
  const scene = openScene(slow, { within: true })
  await scene.ok(['init'])
  const content = contentOf(1, bytes)
  writeFileSync(scene.path('root.img'), content)
  const running = scene.start(['backup'])
  const pid = await holdWhen(running, writing(scene))
  const other = await scene.run(['backup', '--full'])
  expectTold(other, 11, /machine 'web01' is held by 'refpoint backup'/, new RegExp(`pid ${pid}`), /Wait until it is done/)
  // Whoever only reads is not kept out.
  await scene.ok(['points'])
  await scene.ok(['verify'])
  process.kill(pid, 'SIGKILL')
  await running.told

  scene.configure(quick)
  expect((await scene.ok(['backup'])).stdout).toMatch(/full/)
  const { stdout } = await scene.ok(['points', '--json'])
  expect(stdout).toMatch(/"point": ?2/)
  await expectRestores(scene, { point: 2, content })
  await expectVerifies(scene)
  expect(filesBelow(join(scene.repository, 'machines/web01/archives'))).toHaveLength(1)
})

it('says what was committed when it is cancelled after that', async () => {
  const scene = openScene(`${oneImage}  web02:\n    tracker: image\n    stores: { root: ./big.img }\n    compression: { level: 19 }\ndefaults:\n  concurrency: { machines: 1 }\n`, { within: true })
  await scene.ok(['init'])
  writeFileSync(scene.path('root.img'), contentOf(1, 65_536))
  writeFileSync(scene.path('big.img'), contentOf(2, bytes))
  const running = scene.start(['backup', '--all'])
  const folder = join(scene.repository, 'machines/web02/archives')
  const pid = await holdWhen(running, () => existsSync(folder) && readdirSync(folder).some((name) => !name.endsWith('.tar.zst')))
  process.kill(pid, 'SIGINT')
  process.kill(pid, 'SIGCONT')
  const told = await running.told
  expectTold(told, 130, /cancelled by SIGINT/, /web01 #1|web01.*#1/)
  expect(told.stderr).not.toMatch(/nothing was committed/)
  expect((await scene.ok(['points', 'web01'])).stdout).toMatch(/#1/)
  await expectVerifies(scene)
})

it('stops a disk server at a signal without losing what was written, and leaves no socket', async () => {
  const scene = openScene(oneImage, { within: true })
  await scene.ok(['disk', 'create', scene.path('root'), '--size', '8MiB'])
  const socket = scene.path('nbd.sock')
  const server = scene.start(['disk', 'serve', 'root', '--socket', socket])
  while (!existsSync(socket)) await new Promise((resolve) => setTimeout(resolve, 5))
  const second = await scene.run(['disk', 'serve', scene.path('root'), '--socket', scene.path('other.sock')])
  expectTold(second, 11, /root/)
  const pid = server.process.pid ?? 0
  process.kill(pid, 'SIGTERM')
  const told = await server.told
  expect(told.status, told.stderr).toBe(0)
  expect(existsSync(socket)).toBe(false)
  await scene.ok(['disk', 'info', scene.path('root')])
})
