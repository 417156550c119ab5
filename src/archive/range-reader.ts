import { type FileHandle, open } from 'node:fs/promises'
import { RefpointError } from '../model/errors.js'
import type { ObjectLocation } from '../model/location.js'

/** Reads ranges of one stored object. */
export interface RangeReader {
  readonly bytes: number
  /** For messages: the path. */
  readonly description: string
  /** Exactly `length` bytes from `offset` on; a new array. Throws `damaged` when the object is shorter, else `io`. */
  read(offset: number, length: number): Promise<Uint8Array>
  /** The same into memory that is there already: all of `into` is filled. */
  readInto(into: Uint8Array, offset: number): Promise<void>
  close(): Promise<void>
}

/** @throws RefpointError `damaged` when there is no such object, `io` when it can't be opened. */
export async function openRanges(location: ObjectLocation): Promise<RangeReader> {
  if (location.kind === 'shared') return sharedRanges(location.buffer, location.bytes)
  const { path, bytes } = location
  let file: FileHandle
  try {
    file = await open(path, 'r')
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT') {
      throw new RefpointError('damaged', `archive ${path} is missing`, { cause, fields: { archive: path } })
    }
    throw new RefpointError('io', `archive ${path} can not be opened: ${String(cause)}`, { cause })
  }
  const readInto = async (into: Uint8Array, offset: number): Promise<void> => {
    let done = 0
    while (done < into.length) {
      const { bytesRead } = await file.read(into, done, into.length - done, offset + done).catch((cause: unknown) => {
        throw new RefpointError('io', `archive ${path} can not be read: ${String(cause)}`, { cause })
      })
      if (bytesRead === 0) throw shorter(path, offset + into.length)
      done += bytesRead
    }
  }
  return {
    bytes,
    description: path,
    async read(offset, length) {
      const into = new Uint8Array(length)
      await readInto(into, offset)
      return into
    },
    readInto,
    close: () => file.close(),
  }
}

function sharedRanges(buffer: SharedArrayBuffer, bytes: number): RangeReader {
  const description = 'in memory'
  return {
    bytes,
    description,
    async read(offset, length) {
      if (offset + length > bytes) throw shorter(description, offset + length)
      return new Uint8Array(buffer, offset, length).slice()
    },
    async readInto(into, offset) {
      if (offset + into.length > bytes) throw shorter(description, offset + into.length)
      into.set(new Uint8Array(buffer, offset, into.length))
    },
    async close() {},
  }
}

function shorter(path: string, needed: number): RefpointError {
  return new RefpointError('damaged', `archive ${path} is damaged: it ends before byte ${needed}`, {
    fields: { archive: path },
  })
}
