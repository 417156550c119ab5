import * as fs from 'node:fs'
import { open } from 'node:fs/promises'
import { RefpointError } from '../../model/errors.js'
import { symbolicLink } from './folders.js'
import { errorCode } from './storage-error.js'

/**
 * All bytes of a file; undefined when what is there is no file. Never more than `limitBytes` are read.
 * @throws RefpointError `damaged` when it is larger, `io` when it is a symbolic link; else the system's error.
 */
export async function readSmallFile(path: string, limitBytes: number): Promise<Uint8Array | undefined> {
  const handle = await open(path, fs.constants.O_RDONLY | fs.constants.O_NOFOLLOW | fs.constants.O_NONBLOCK).catch(
    (error: unknown) => {
      throw errorCode(error) === 'ELOOP' ? symbolicLink(path) : error
    },
  )
  try {
    const stats = await handle.stat()
    if (!stats.isFile()) return undefined
    if (stats.size > limitBytes) {
      throw new RefpointError('damaged', `object ${path} is ${stats.size} bytes, at most ${limitBytes} expected`, {
        fields: { path, bytes: stats.size, limitBytes },
      })
    }
    const bytes = new Uint8Array(stats.size)
    let done = 0
    while (done < bytes.length) {
      const { bytesRead } = await handle.read(bytes, done, bytes.length - done, done)
      if (bytesRead === 0) break
      done += bytesRead
    }
    return bytes.subarray(0, done)
  } finally {
    await handle.close()
  }
}
