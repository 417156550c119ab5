import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { temporaryFolder } from './temporary.js'

const script = resolve(import.meta.dirname, '../samples/quickstart.sh')
/** The quickstart takes the first `node` of PATH: the one that runs the tests. */
const env = { ...process.env, PATH: `${dirname(process.execPath)}:${process.env['PATH'] ?? ''}` }

interface Quickstart {
  readonly process: ChildProcess
  output(): string
  readonly ended: Promise<number | NodeJS.Signals | null>
}

function quickstart(folder: string): Quickstart {
  const child = spawn('bash', [script, folder], { env, stdio: ['ignore', 'pipe', 'pipe'] })
  onTestFinished(() => void child.kill('SIGTERM'))
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (output += chunk.toString()))
  const ended = new Promise<number | NodeJS.Signals | null>((done) => {
    child.on('close', (code, signal) => done(code ?? signal))
  })
  return { process: child, output: () => output, ended }
}

/** The server listens, and takes its socket away when it ends in an orderly manner. */
const socketOf = (folder: string): string => join(folder, 'disks/root/nbd.sock')

test('the quickstart restores each of its points, and leaves its folder and no server', async () => {
  const folder = join(temporaryFolder(), 'quickstart')
  const run = quickstart(folder)
  expect(await run.ended, run.output()).toBe(0)
  const output = run.output()
  expect(output.match(/its SHA-256 is [0-9a-f]{64}: the same/g)).toHaveLength(3)
  expect(output).not.toContain('NOT the disk')
  expect(output).toMatch(/point #1, full, crash: changed .* stored .* took/)
  expect(output).toMatch(/point #2, incremental, crash: changed 640 KiB, .*root tracked \(changes since point #1\)/)
  expect(output).toMatch(/^ +#3 .* incremental /m)
  expect(output).toContain('What to type next:')
  expect(existsSync(join(folder, 'restored/2/root.raw'))).toBe(true)
  expect(existsSync(socketOf(folder))).toBe(false)
})

test('the quickstart that is stopped takes its server with it', async () => {
  const folder = join(temporaryFolder(), 'quickstart')
  const run = quickstart(folder)
  while (!run.output().includes('nbd+unix:') && run.process.exitCode === null) {
    await new Promise((done) => setTimeout(done, 20))
  }
  expect(existsSync(socketOf(folder)), run.output()).toBe(true)
  run.process.kill('SIGTERM')
  expect(await run.ended).toBe(143)
  expect(existsSync(socketOf(folder))).toBe(false)
  expect(run.output()).toContain('The quickstart ended early')
})

test('the quickstart does not touch a folder that holds something', async () => {
  const folder = join(temporaryFolder(), 'mine')
  mkdirSync(folder)
  writeFileSync(join(folder, 'letter'), 'dear')
  const run = quickstart(folder)
  expect(await run.ended).toBe(2)
  expect(run.output()).toContain('is not empty: name a new folder')
})
