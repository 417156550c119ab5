import type { StatusRun } from './backend.js'
import type { ErrorReply } from './error-reply.js'
import { chunk, magic, replyFlag, size } from './protocol.js'
import { headroomBytes } from './read-buffers.js'
import type { Request } from './server-request.js'

const offsetBytes = 8

/** A reply without bytes: success, or an error that a client without structured replies can be told. */
export function simpleReply(request: Request, error: number): Buffer {
  const bytes = Buffer.allocUnsafe(size.simpleReply)
  writeSimpleHeader(bytes, 0, request, error)
  return bytes
}

/** An error with a sentence for a person; ends the reply. */
export function errorChunk(request: Request, { error, message }: ErrorReply): Buffer {
  const text = Buffer.from(message.slice(0, 1024))
  const bytes = Buffer.allocUnsafe(size.chunkHeader + 6 + text.length)
  writeChunkHeader(bytes, 0, request, replyFlag.done, chunk.error, 6 + text.length)
  bytes.writeUInt32BE(error, size.chunkHeader)
  bytes.writeUInt16BE(text.length, size.chunkHeader + 4)
  bytes.set(text, size.chunkHeader + 6)
  return bytes
}

/** Ends a structured reply that has nothing to tell. */
export function emptyChunk(request: Request): Buffer {
  const bytes = Buffer.allocUnsafe(size.chunkHeader)
  writeChunkHeader(bytes, 0, request, replyFlag.done, chunk.none, 0)
  return bytes
}

/** Puts the header of a read's reply into the headroom of its buffer; returns header and bytes as one piece. */
export function readReply(request: Request, buffer: Uint8Array, structured: boolean): Buffer {
  const header = structured ? size.chunkHeader + offsetBytes : size.simpleReply
  const start = headroomBytes - header
  const bytes = Buffer.from(buffer.buffer, buffer.byteOffset + start, header + request.length)
  if (!structured) {
    writeSimpleHeader(bytes, 0, request, 0)
    return bytes
  }
  writeChunkHeader(bytes, 0, request, replyFlag.done, chunk.offsetData, offsetBytes + request.length)
  bytes.writeUInt32BE(Math.floor(request.offset / 2 ** 32), size.chunkHeader)
  bytes.writeUInt32BE(request.offset % 2 ** 32, size.chunkHeader + 4)
  return bytes
}

/** One context's runs, neighbours of equal flags joined and nothing past the request's end. */
export function statusChunk(request: Request, contextId: number, runs: readonly StatusRun[], last: boolean): Buffer {
  const bytes = Buffer.allocUnsafe(size.chunkHeader + 4 + 8 * runs.length)
  let at = size.chunkHeader + 4
  let left = request.length
  for (let index = 0; index < runs.length && left > 0;) {
    const flags = runs[index]?.flags ?? 0
    let length = 0
    for (; index < runs.length && runs[index]?.flags === flags; index++) length += runs[index]?.length ?? 0
    length = Math.min(length, left)
    if (length <= 0) continue
    left -= length
    bytes.writeUInt32BE(length, at)
    bytes.writeUInt32BE(flags, at + 4)
    at += 8
  }
  if (at === size.chunkHeader + 4) throw new Error(`no status known at ${request.offset}`)
  writeChunkHeader(bytes, 0, request, last ? replyFlag.done : 0, chunk.blockStatus, at - size.chunkHeader)
  bytes.writeUInt32BE(contextId, size.chunkHeader)
  return bytes.subarray(0, at)
}

function writeSimpleHeader(bytes: Buffer, at: number, request: Request, error: number): void {
  bytes.writeUInt32BE(magic.simpleReply, at)
  bytes.writeUInt32BE(error, at + 4)
  bytes.writeUInt32BE(request.handleHigh, at + 8)
  bytes.writeUInt32BE(request.handleLow, at + 12)
}

function writeChunkHeader(
  bytes: Buffer,
  at: number,
  request: Request,
  flags: number,
  type: number,
  length: number,
): void {
  bytes.writeUInt32BE(magic.structuredReply, at)
  bytes.writeUInt16BE(flags, at + 4)
  bytes.writeUInt16BE(type, at + 6)
  bytes.writeUInt32BE(request.handleHigh, at + 8)
  bytes.writeUInt32BE(request.handleLow, at + 12)
  bytes.writeUInt32BE(length, at + 16)
}
