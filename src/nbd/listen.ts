import { chmodSync, lstatSync, mkdirSync, type Stats, statSync, unlinkSync } from 'node:fs'
import { connect, isIP, type Server } from 'node:net'
import { dirname, resolve } from 'node:path'
import { RefpointError } from '../model/errors.js'

/** A unix socket, or a port on a loopback address (0: any free one). */
export type ListenOn = { readonly path: string } | { readonly host?: string; readonly port: number }

export type BoundAddress =
  | { readonly path: string }
  | { readonly host: string; readonly port: number }

/** The kernel's limit for a socket's path, and longer ones are cut, not refused, by some systems. */
const longestPathBytes = 107

/**
 * Starts listening where nobody but this user (a unix socket) or this host (loopback) can connect.
 *
 * The socket of a server that died is replaced. Whoever must never have two servers at once holds a lock of their own
 * before they call this.
 * @throws RefpointError `locked` when a server lives there, `usage` for an address that is not allowed.
 */
export async function listenOn(server: Server, where: ListenOn): Promise<BoundAddress> {
  return 'path' in where ? listenOnPath(server, where.path) : listenOnLoopback(server, where)
}

async function listenOnPath(server: Server, path: string): Promise<BoundAddress> {
  if (path === '' || path.includes('\0') || Buffer.byteLength(resolve(path)) > longestPathBytes) {
    throw new RefpointError('usage', `cannot listen on '${path}': not a possible path of a unix socket`, {
      hint: `A socket's path has at most ${longestPathBytes} bytes: choose a shorter one.`,
    })
  }
  const absolute = resolve(path)
  preparePrivateFolder(dirname(absolute))
  await removeStaleSocket(absolute)
  // The socket must never exist with wider permissions, and bind creates it within this very call.
  const umask = process.umask(0o177)
  let listening: Promise<void>
  try {
    listening = started(server, () => server.listen({ path: absolute }))
  } finally {
    process.umask(umask)
  }
  await listening.catch((cause: unknown) => {
    const taken = errorCode(cause) === 'EADDRINUSE'
    throw new RefpointError(taken ? 'locked' : 'io', `cannot listen on ${absolute}: ${String(cause)}`, { cause })
  })
  chmodSync(absolute, 0o600)
  return { path: absolute }
}

async function listenOnLoopback(server: Server, where: { host?: string; port: number }): Promise<BoundAddress> {
  const host = where.host === undefined || where.host === 'localhost' ? '127.0.0.1' : where.host
  const loopback = (isIP(host) === 4 && host.startsWith('127.')) || host === '::1'
  if (!loopback) {
    throw new RefpointError('usage', `refused to listen on ${host}: NBD has no authentication of its own`, {
      hint: 'Listen on a unix socket or on 127.0.0.1, and bring it to other hosts through SSH or a VPN.',
    })
  }
  await started(server, () => server.listen({ host, port: where.port })).catch((cause: unknown) => {
    const taken = errorCode(cause) === 'EADDRINUSE'
    const message = `cannot listen on ${host}:${where.port}: ${String(cause)}`
    throw new RefpointError(taken ? 'locked' : 'io', message, { cause })
  })
  const bound = server.address()
  if (bound === null || typeof bound === 'string') throw new RefpointError('io', `${host} gave no port`)
  return { host, port: bound.port }
}

function started(server: Server, listen: () => void): Promise<void> {
  return new Promise((resolveStarted, reject) => {
    server.once('error', reject)
    server.once('listening', () => {
      server.off('error', reject)
      resolveStarted()
    })
    listen()
  })
}

function preparePrivateFolder(folder: string): void {
  const created = mkdirSync(folder, { recursive: true, mode: 0o700 })
  if (created !== undefined) return
  const mode = statSync(folder).mode
  if ((mode & 0o022) !== 0 && (mode & 0o1000) === 0) {
    throw new RefpointError('usage', `refused to listen in ${folder}: other users may write there`, {
      hint: `They could put a socket of theirs in its place. chmod go-w ${folder}, or choose another folder.`,
    })
  }
}

async function removeStaleSocket(path: string): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false })
  if (found === undefined) return
  if (!found.isSocket()) {
    throw new RefpointError('usage', `cannot listen on ${path}: there is something that is not a socket`)
  }
  if (await answers(path)) {
    throw new RefpointError('locked', `cannot listen on ${path}: a server is running there`, {
      hint: 'Stop that server first, or choose another socket.',
    })
  }
  if (sameFile(found, lstatSync(path, { throwIfNoEntry: false }))) unlinkSync(path)
}

function sameFile(one: Stats, other: Stats | undefined): boolean {
  return other !== undefined && one.ino === other.ino && one.dev === other.dev
}

/** Only a refused connection proves that nobody listens: a full backlog or a lack of permission does not. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolveAnswer) => {
    const socket = connect({ path })
    socket.once('connect', () => {
      socket.destroy()
      resolveAnswer(true)
    })
    socket.once('error', (error) => resolveAnswer(!['ECONNREFUSED', 'ENOENT'].includes(errorCode(error) ?? '')))
  })
}

function errorCode(error: unknown): string | undefined {
  return error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined
}
