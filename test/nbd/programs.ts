import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { execa } from 'execa'
import { onTestFinished } from 'vitest'
import type { Backend } from '../../src/nbd/backend.js'
import { type NbdServer, type NbdServerLimits, serveNbd } from '../../src/nbd/server.js'
import { temporaryFolder } from '../temporary.js'

export interface Served {
  readonly server: NbdServer
  readonly path: string
  readonly uri: string
}

/** Our server with one export on a unix socket, closed when the test ends. */
export async function serve(backend: Backend, limits: Partial<NbdServerLimits> = {}): Promise<Served> {
  const path = join(temporaryFolder(), 'nbd.sock')
  const server = await serveNbd({ exports: new Map([['disk', backend]]), listen: { path }, limits })
  onTestFinished(() => server.close())
  return { server, path, uri: `nbd+unix:///disk?socket=${path}` }
}

/** Runs a program to its end; throws with what it said when it fails. */
export async function run(command: string, ...args: readonly string[]): Promise<string> {
  const { stdout } = await execa(command, args, { timeout: 60_000, stripFinalNewline: false })
  return stdout
}

/** nbdsh finds its module only in the system's python, which another one may hide. */
const systemFirst = { PATH: `/usr/bin:${process.env['PATH'] ?? ''}` }

/** Runs a python script in nbdsh, connected to `uri` as `h` unless the script connects for itself. */
export async function nbdsh(uri: string | undefined, script: string): Promise<string> {
  const connect = uri === undefined ? [] : ['-u', uri]
  const { stdout } = await execa('nbdsh', [...connect, '-c', script], { timeout: 60_000, env: systemFirst })
  return stdout
}

/** A server program that listens on the socket `path`, and for more than one client; ended when the test ends. */
export async function start(path: string, command: string, ...args: readonly string[]): Promise<void> {
  const child = execa(command, args, { reject: false, timeout: 110_000 })
  onTestFinished(async () => {
    child.kill('SIGKILL')
    await child
  })
  let ended: string | undefined
  void child.then((result) => (ended = `${result.stderr}`))
  while (!(await listens(path))) {
    if (ended !== undefined) throw new Error(`${command} did not start: ${ended}`)
    await delay(25)
  }
}

/** A socket's file exists a while before anybody listens. */
function listens(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path, () => {
      socket.destroy()
      resolve(true)
    })
    socket.on('error', () => resolve(false))
  })
}

/** Bytes that tell where they belong: each 8 bytes hold their own offset. */
export function pattern(bytes: number, salt = 0): Buffer {
  const buffer = Buffer.alloc(bytes)
  for (let at = 0; at + 8 <= bytes; at += 8) buffer.writeBigUInt64LE(BigInt(at + salt), at)
  return buffer
}
