import { connect, createServer, type Server, type Socket } from 'node:net'
import { RefpointError } from '../../model/errors.js'

export interface ProcessLock {
  release(): Promise<void>
}

export interface LockOptions {
  /** What is locked, for the message. */
  readonly what: string
  /** How long to wait for whoever holds it, in milliseconds. */
  readonly waitMs: number
  readonly signal: AbortSignal
}

/**
 * Takes a lock of this host by name: an abstract unix socket, which the kernel releases with the process. It is valid
 * for all processes of one network namespace. Waits for its turn; who comes first afterwards is not said.
 * @throws RefpointError `locked` when the time is over, telling who holds it.
 */
export async function lockProcess(name: string, { what, waitMs, signal }: LockOptions): Promise<ProcessLock> {
  const path = `\0refpoint-${name}`
  const deadline = performance.now() + waitMs
  for (;;) {
    signal.throwIfAborted()
    const lock = await tryListen(path)
    if (lock !== undefined) return lock
    const holder = await whenReleased(path, Math.max(0, deadline - performance.now()), signal)
    if (holder === undefined || performance.now() < deadline) continue
    throw new RefpointError('locked', `${what} is being backed up by process ${holder}`, {
      hint: 'Two runs take turns on one machine. Run again when that one is done, or end it.',
      fields: { pid: holder },
    })
  }
}

function tryListen(path: string): Promise<ProcessLock | undefined> {
  const waiters = new Set<Socket>()
  const server: Server = createServer((socket) => {
    waiters.add(socket)
    socket.on('error', () => {})
    socket.on('close', () => waiters.delete(socket))
    socket.resume()
    socket.unref()
    socket.write(`${process.pid}\n`)
  })
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') resolve(undefined)
      else reject(error)
    })
    server.listen({ path }, () => {
      server.unref()
      resolve({
        release: () =>
          new Promise((done) => {
            server.close(() => done())
            for (const socket of waiters) socket.destroy()
          }),
      })
    })
  })
}

/** Resolves when the holder has gone, or to what is known of it when the time is over. */
function whenReleased(path: string, waitMs: number, signal: AbortSignal): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path })
    let holder = 'unknown'
    const timer = setTimeout(() => settle(() => resolve(holder)), waitMs)
    const aborted = (): void => settle(() => reject(signal.reason))
    const settle = (how: () => void): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', aborted)
      socket.destroy()
      how()
    }
    signal.addEventListener('abort', aborted)
    socket.on('data', (bytes) => (holder = bytes.toString().trim()))
    socket.on('error', () => settle(() => resolve(undefined)))
    socket.on('close', () => settle(() => resolve(undefined)))
  })
}
