import { closeSync, ftruncateSync, openSync, readFileSync, statSync, writeSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { loadNative } from '../../files/native.js'
import { RefpointError } from '../../model/errors.js'

export interface FolderLock {
  release(): Promise<void>
}

/**
 * Makes sure that only one process has this disk open. Two locks, both released by the kernel with the process: an
 * abstract unix socket named by the folder's device and inode (any process of this network namespace), and flock on
 * the file `lock` where native calls are there (any process that sees the file system).
 * @throws RefpointError `locked`, saying who holds it if that can be told.
 */
export async function lockFolder(folder: string): Promise<FolderLock> {
  const { dev, ino } = statSync(folder, { bigint: true })
  const server = await listenAbstract(`\0refpoint-disk-${dev}-${ino}`, folder)
  const path = join(folder, 'lock')
  let fd: number | undefined
  try {
    fd = openSync(path, 'a+', 0o600)
    const native = await loadNative()
    if (native?.lockFile(fd) === false) throw locked(folder)
    ftruncateSync(fd, 0)
    writeSync(fd, `${process.pid}\n`)
  } catch (error) {
    if (fd !== undefined) closeSync(fd)
    await closed(server)
    throw error
  }
  const lockFd = fd
  let released = false
  return {
    async release() {
      if (released) return
      released = true
      ftruncateSync(lockFd, 0)
      closeSync(lockFd)
      await closed(server)
    },
  }
}

function listenAbstract(path: string, folder: string): Promise<Server> {
  const server = createServer((socket) => socket.destroy())
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      reject(error.code === 'EADDRINUSE' ? locked(folder, error) : error)
    })
    server.listen({ path }, () => {
      server.unref()
      resolve(server)
    })
  })
}

function closed(server: Server): Promise<void> {
  return new Promise((resolve) => server.close(() => resolve()))
}

function locked(folder: string, cause?: unknown): RefpointError {
  const pid = holder(folder)
  return new RefpointError('locked', `${folder} is in use${pid === undefined ? '' : ` by process ${pid}`}`, {
    cause,
    hint: 'Another server or command has this disk open. Use it through that server, or end that process first.',
    fields: { folder, ...(pid === undefined ? {} : { pid }) },
  })
}

function holder(folder: string): number | undefined {
  try {
    const pid = Number(readFileSync(join(folder, 'lock'), 'utf8').trim())
    return pid > 0 ? pid : undefined
  } catch {
    return undefined
  }
}
