import * as fs from 'node:fs'
import { promisify } from 'node:util'
import { RefpointError } from '../../model/errors.js'
import { symbolicLink } from './folders.js'
import { errorCode } from './storage-error.js'

const open = promisify(fs.open)
const read = promisify(fs.read)
/** Up to here a read is one or two blocks of the disk: cheaper done at once than handed to another thread. */
const atOnceBytes = 64 * 1024
const flags = fs.constants.O_RDONLY | fs.constants.O_NOFOLLOW | fs.constants.O_NONBLOCK

/**
 * All bytes of a file; undefined when what is there is no file. Never more than `limitBytes` are read. A history is
 * thousands of such files: only opening one is worth another thread.
 * @throws RefpointError `damaged` when it is larger, `io` when it is a symbolic link; else the system's error.
 */
export async function readSmallFile(path: string, limitBytes: number): Promise<Uint8Array | undefined> {
  const fd = await open(path, flags).catch((error: unknown) => {
    throw errorCode(error) === 'ELOOP' ? symbolicLink(path) : error
  })
  try {
    const stats = fs.fstatSync(fd)
    if (!stats.isFile()) return undefined
    if (stats.size > limitBytes) {
      throw new RefpointError('damaged', `object ${path} is ${stats.size} bytes, at most ${limitBytes} expected`, {
        fields: { path, bytes: stats.size, limitBytes },
      })
    }
    const bytes = new Uint8Array(stats.size)
    let done = 0
    while (done < bytes.length) {
      const rest = bytes.length - done
      const atOnce = rest <= atOnceBytes
      const { bytesRead: count } = atOnce
        ? { bytesRead: fs.readSync(fd, bytes, done, rest, done) }
        : await read(fd, bytes, done, rest, done)
      if (count === 0) break
      done += count
    }
    return bytes.subarray(0, done)
  } finally {
    fs.closeSync(fd)
  }
}
