import * as fs from 'node:fs'
import { promises } from 'node:fs'
import { deviceNumber } from '../model/device-number.js'
import type { FileHandle, Files } from './files.js'
import { loadNative } from './native.js'

/** writev takes at most 1,024 pieces (IOV_MAX) in one call. */
const maxPieces = 1024
const zeroes = new Uint8Array(1024 * 1024)
const openFlags = {
  create: fs.constants.O_CREAT | fs.constants.O_EXCL | fs.constants.O_RDWR,
  write: fs.constants.O_RDWR,
  read: fs.constants.O_RDONLY,
} as const

/** The file layer on the real file system. */
export const nodeFiles: Files = {
  open: (path, mode) =>
    settle((done) => fs.open(path, openFlags[mode], 0o600, done), (fd: number) => new NodeFileHandle(path, fd)),
  readFile: (path) => promises.readFile(path),
  async exists(path) {
    try {
      await promises.stat(path)
      return true
    } catch (error) {
      if (hasCode(error, 'ENOENT', 'ENOTDIR')) return false
      throw error
    }
  },
  list: (folder) => promises.readdir(folder),
  makeFolder: (path) => promises.mkdir(path, { mode: 0o700 }),
  removeFolder: (path) => promises.rmdir(path),
  rename: (from, to) => promises.rename(from, to),
  link: (from, to) => promises.link(from, to),
  unlink: (path) => promises.unlink(path),
  async syncFolder(path) {
    const handle = await promises.open(path, fs.constants.O_RDONLY | fs.constants.O_DIRECTORY)
    try {
      await handle.sync()
    } catch (error) {
      // Some network file systems have no such call: there names are as durable as their server makes them.
      if (!hasCode(error, 'EINVAL', 'ENOTSUP', 'EOPNOTSUPP')) throw error
    } finally {
      await handle.close()
    }
  },
}

/** Plain callbacks on a descriptor: Node's own file handles cost noticeably more per call. */
class NodeFileHandle implements FileHandle {
  readonly path: string
  readonly fd: number
  #closed = false

  constructor(path: string, fd: number) {
    this.path = path
    this.fd = fd
  }

  async read(into: Uint8Array, offset: number): Promise<number> {
    let done = 0
    while (done < into.length) {
      const count = await this.#readOnce(into, done, offset + done)
      if (count === 0) break
      done += count
    }
    return done
  }

  async write(pieces: readonly Uint8Array[], offset: number): Promise<void> {
    let rest = pieces.filter((piece) => piece.length > 0)
    let at = offset
    while (rest.length > 0) {
      const count = await this.#writeOnce(rest.length > maxPieces ? rest.slice(0, maxPieces) : rest, at)
      at += count
      rest = withoutFirst(rest, count)
    }
  }

  truncate(sizeBytes: number): Promise<void> {
    return settle((done) => fs.ftruncate(this.fd, sizeBytes, done))
  }

  async zero(offset: number, length: number): Promise<void> {
    if (length <= 0) return
    const native = await loadNative()
    if (native?.punchHole(this.fd, offset, length) === true) return
    const end = Math.min(offset + length, await this.size())
    for (let at = offset; at < end; at += zeroes.length) {
      await this.write([zeroes.subarray(0, Math.min(zeroes.length, end - at))], at)
    }
  }

  async size(): Promise<number> {
    const stats = await settle<fs.Stats>((done) => fs.fstat(this.fd, done))
    return stats.isBlockDevice() ? await blockDeviceSize(this.fd, stats.rdev) : stats.size
  }

  sync(): Promise<void> {
    return settle((done) => fs.fdatasync(this.fd, done))
  }

  /** Safe to call twice: by then the number may be somebody else's descriptor. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    await settle((done) => fs.close(this.fd, done))
  }

  #readOnce(into: Uint8Array, start: number, position: number): Promise<number> {
    return settle((done) => fs.read(this.fd, into, start, into.length - start, position, done))
  }

  async #writeOnce(pieces: Uint8Array[], position: number): Promise<number> {
    const count = await settle<number>((done) => fs.writev(this.fd, pieces, position, done))
    if (count > 0) return count
    throw Object.assign(new Error(`EIO: nothing written to ${this.path}`), { code: 'EIO', syscall: 'writev' })
  }
}

/** Without native calls the kernel tells a device's size, in sectors of 512 bytes, in a file. */
async function blockDeviceSize(fd: number, device: number): Promise<number> {
  const native = await loadNative()
  if (native !== undefined) return native.blockDeviceSize(fd)
  return Number(await promises.readFile(`/sys/dev/block/${deviceNumber(BigInt(device))}/size`, 'utf8')) * 512
}

/** What is left of consecutive pieces after the first `count` bytes of them. */
function withoutFirst(pieces: readonly Uint8Array[], count: number): Uint8Array[] {
  let left = count
  let index = 0
  for (let piece = pieces[0]; piece !== undefined && left >= piece.length; piece = pieces[index]) {
    left -= piece.length
    index += 1
  }
  const rest = pieces.slice(index)
  const first = rest[0]
  if (left > 0 && first !== undefined) rest[0] = first.subarray(left)
  return rest
}

function settle<T, R = T>(
  call: (done: (error: NodeJS.ErrnoException | null, value?: T) => void) => void,
  map?: (value: T) => R,
): Promise<R> {
  return new Promise((resolve, reject) => {
    call((error, value) => {
      if (error !== null && error !== undefined) reject(error)
      else resolve((map === undefined ? value : map(value as T)) as R)
    })
  })
}

function hasCode(error: unknown, ...codes: readonly string[]): boolean {
  return error instanceof Error && codes.includes((error as NodeJS.ErrnoException).code ?? '')
}
