import { type ChildProcess, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { Writable } from 'node:stream'
import { expect, onTestFinished } from 'vitest'
import { runProgram } from '../../src/cli/program.js'
import { temporaryFolder } from '../temporary.js'

const program = resolve(import.meta.dirname, '../../dist/main.js')
const withoutRefpoint = resolve(import.meta.dirname, '../../samples/restore-without-refpoint.py')

export interface Told {
  /** The exit status; -1 when a signal ended it. */
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>
  /** A command that runs the program with something changed, such as `['setpriv', '--reuid=1000']`. */
  readonly through?: readonly string[]
}

export interface Running {
  readonly process: ChildProcess
  readonly told: Promise<Told>
}

/** A folder with a configuration, images and a repository, and the real command line run in it. */
export interface Scene {
  readonly folder: string
  readonly repository: string
  /** A path in the scene's folder. */
  path(...parts: readonly string[]): string
  configure(text: string): void
  start(args: readonly string[], options?: RunOptions): Running
  run(args: readonly string[], options?: RunOptions): Promise<Told>
  /** Runs what must succeed. */
  ok(args: readonly string[], options?: RunOptions): Promise<Told>
}

/** The configuration of one machine, `web01`, with one image, `root.img`. */
export const oneImage = `
repository: ./repository
machines:
  web01:
    tracker: image
    stores: { root: ./root.img }
`

/**
 * @param within runs the command line in this process, for tests that run it a hundred times: all of it but the signals
 * and the exit. What runs with options is a process all the same.
 */
export function openScene(config = oneImage, { within = false } = {}): Scene {
  const folder = temporaryFolder()
  const run = (args: readonly string[], options?: RunOptions): Promise<Told> =>
    within && options === undefined ? runHere(folder, args) : start(folder, args, options).told
  const scene: Scene = {
    folder,
    repository: join(folder, 'repository'),
    path: (...parts) => join(folder, ...parts),
    configure: (text) => writeFileSync(join(folder, 'refpoint.yaml'), text),
    start: (args, options) => start(folder, args, options),
    run,
    async ok(args, options) {
      const told = await run(args, options)
      expect(told.status, `refpoint ${args.join(' ')}: ${told.stderr}`).toBe(0)
      return told
    },
  }
  scene.configure(config)
  return scene
}

function start(folder: string, args: readonly string[], { env = {}, through = [] }: RunOptions = {}): Running {
  const [command = process.execPath, ...rest] = [...through, process.execPath, program, ...args]
  const { REFPOINT_CONFIG: _, REFPOINT_DEBUG: __, ...inherited } = process.env
  const child = spawn(command, rest, { cwd: folder, env: { ...inherited, ...env }, stdio: ['ignore', 'pipe', 'pipe'] })
  onTestFinished(() => void child.kill('SIGKILL'))
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', (data: Buffer) => (stdout += data.toString()))
  child.stderr.on('data', (data: Buffer) => (stderr += data.toString()))
  const told = new Promise<Told>((done, failed) => {
    child.on('error', failed)
    child.on('close', (code) => done({ status: code ?? -1, stdout, stderr }))
  })
  return { process: child, told }
}

/** What a failure tells: this status, these facts, and nothing that only a programmer understands. */
export function expectTold(told: Told, status: number, ...substance: readonly (string | RegExp)[]): void {
  expect(told.status, told.stderr).toBe(status)
  for (const part of substance) expect(told.stderr).toMatch(part)
  expect(told.stderr, 'a stack trace').not.toMatch(/^\s+at .+[:)]/m)
  expect(told.stderr, 'an error that nobody put in words').not.toMatch(/unexpected|This is a bug|(?<!received )undefined|\[object/)
}

async function runHere(cwd: string, args: readonly string[]): Promise<Told> {
  let stdout = ''
  let stderr = ''
  const status = await runProgram(args, {
    version: '0.0.0',
    services: () => import('../../src/compose.js'),
    disk: async () => (await import('../../src/compose-disk.js')).diskActions,
    signal: new AbortController().signal,
    cwd,
    env: {},
    stdout: collector((text) => (stdout += text)),
    stderr: collector((text) => (stderr += text)),
  })
  return { status, stdout, stderr }
}

function collector(take: (text: string) => void): Writable {
  return new Writable({
    write(chunk: Buffer, _encoding, done) {
      take(chunk.toString())
      done()
    },
  })
}

const pieceBytes = 4096

/** Content that differs from piece to piece and from seed to seed; every third piece is zeroes, every other is noise. */
export function contentOf(seed: number, bytes: number): Buffer {
  const content = Buffer.alloc(bytes)
  for (let at = 0; at < bytes; at += pieceBytes) {
    const number = at / pieceBytes
    if (number % 3 === 2) continue
    const piece = createHash('sha512').update(`${seed} ${number}`).digest()
    for (let done = 0; done < pieceBytes && at + done < bytes; done += piece.length) {
      piece.copy(content, at + done, 0, Math.min(piece.length, bytes - at - done))
      if (number % 2 === 0) piece.writeUInt32LE(done, 0)
    }
  }
  return content
}

/** Some of the pieces as they would be under another seed. */
export function changed(content: Buffer, seed: number, every = 17): Buffer {
  const next = Buffer.from(content)
  const other = contentOf(seed, content.length)
  for (let at = (seed % every) * pieceBytes; at < content.length; at += every * pieceBytes) {
    other.copy(next, at, at, at + pieceBytes)
  }
  return next
}

export interface Taken {
  readonly point: number
  readonly content: Buffer
}

/** Four points of `web01`: a full, two incrementals on it, and another full. */
export async function takeHistory(scene: Scene, bytes = 3 * 1024 * 1024 + 512): Promise<readonly Taken[]> {
  await scene.ok(['init'])
  const taken: Taken[] = []
  let content = contentOf(1, bytes)
  for (const point of [1, 2, 3, 4]) {
    if (point > 1) content = changed(content, point)
    writeFileSync(scene.path('root.img'), content)
    await scene.ok(point === 4 ? ['backup', '--full'] : ['backup'])
    taken.push({ point, content })
  }
  return taken
}

let restored = 0

/** Restores a point with the command line, without taking anything for granted. */
export async function restore(scene: Scene, point: number): Promise<Told & { readonly folder: string }> {
  restored += 1
  const folder = scene.path(`restored-${restored}`)
  const told = await scene.run(['restore', 'web01', '--at', String(point), '--to', folder])
  return { ...told, folder }
}

/** A point restores to exactly this. */
export async function expectRestores(scene: Scene, { point, content }: Taken): Promise<void> {
  const told = await restore(scene, point)
  expect(told.status, `point #${point}: ${told.stderr}`).toBe(0)
  expectSame(readFileSync(join(told.folder, 'root.raw')), content, `point #${point}`)
  rmSync(told.folder, { recursive: true })
}

/** A point is refused as damaged, and nothing is left that looks whole. */
export async function expectRefused(scene: Scene, point: number, ...substance: readonly (string | RegExp)[]) {
  const told = await restore(scene, point)
  expectTold(told, 13, ...substance)
  expect(filesBelow(told.folder)).toEqual([])
}

/** Damage that may or may not matter to a restore: what is restored is right, or nothing is. */
export async function expectRightOrRefused(scene: Scene, { point, content }: Taken): Promise<void> {
  const told = await restore(scene, point)
  if (told.status === 0) expectSame(readFileSync(join(told.folder, 'root.raw')), content, `point #${point}`)
  else {
    expectTold(told, 13)
    expect(filesBelow(told.folder)).toEqual([])
  }
}

export async function expectVerifies(scene: Scene): Promise<void> {
  const told = await scene.run(['verify'])
  expect(told.status, told.stderr).toBe(0)
  expect(told.stdout).toMatch(/nothing is damaged/)
}

/** Restores with the script that shares no code with refpoint. */
export async function restoreWithoutRefpoint(repository: string, store: string, point: number): Promise<Buffer> {
  const folder = temporaryFolder()
  const image = join(folder, 'image')
  const args = [withoutRefpoint, store, image, '--repository', repository, 'web01', String(point)]
  const child = spawn('python3', args, { stdio: ['ignore', 'ignore', 'pipe'] })
  let stderr = ''
  child.stderr.on('data', (data: Buffer) => (stderr += data.toString()))
  const status = await new Promise<number | null>((done) => child.on('close', done))
  expect(status, `point #${point}, store ${store}, without refpoint: ${stderr}`).toBe(0)
  const content = readFileSync(image)
  rmSync(folder, { recursive: true })
  return content
}

/** Compares megabytes, and says where they differ first. */
export function expectSame(found: Buffer, expected: Buffer, what: string): void {
  if (found.equals(expected)) return
  let at = 0
  while (at < found.length && found[at] === expected[at]) at += 1
  expect.fail(`${what}: ${found.length} bytes differ from ${expected.length} expected, first at byte ${at}`)
}

/** Files below a folder, by their paths in it; none where there is no folder. */
export function filesBelow(folder: string): string[] {
  if (!existsSync(folder)) return []
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .sort()
}

export function manifestPath(scene: Scene, point: number): string {
  return join(scene.repository, 'machines/web01/points', `${String(point).padStart(8, '0')}.json`)
}

export interface EditableManifest {
  machine: string
  machineUuid: string
  point: number
  parent: number | null
  nonce: string
  time: string
  requires: string[]
  format: number
  stores: { name: string; sizeBytes: number; contentSum: string; mode: string }[]
  archive: { name: string; bytes: number; sha256: string }
}

export function readManifest(scene: Scene, point: number): EditableManifest {
  return JSON.parse(readFileSync(manifestPath(scene, point), 'utf8')) as EditableManifest
}

/** Changes a manifest behind refpoint's back. */
export function editManifest(scene: Scene, point: number, edit: (manifest: EditableManifest) => void): void {
  const manifest = readManifest(scene, point)
  edit(manifest)
  overwrite(manifestPath(scene, point), JSON.stringify(manifest))
}

export function overwrite(path: string, content: string | Uint8Array): void {
  if (existsSync(path)) chmodSync(path, 0o600)
  writeFileSync(path, content)
}

export function archivePath(scene: Scene, point: number): string {
  return join(scene.repository, readManifest(scene, point).archive.name)
}

export function makeFolder(path: string): string {
  mkdirSync(path, { recursive: true })
  return path
}

/** After a power cut, whoever held a lease is gone: here the process still lives, so its records are made another's. */
export function forgetHolders(repository: string): void {
  const locks = join(repository, 'machines/web01/locks')
  if (!existsSync(locks)) return
  for (const name of readdirSync(locks).filter((each) => each.startsWith('lease-'))) {
    const record = JSON.parse(readFileSync(join(locks, name), 'utf8')) as { holder: { start: string } }
    overwrite(join(locks, name), JSON.stringify({ ...record, holder: { ...record.holder, start: 'before the power cut' } }))
  }
}
