import { command, commandFlag } from './protocol.js'
import type { ReadBuffers } from './read-buffers.js'
import { headroomBytes } from './read-buffers.js'
import type { Session } from './server-handshake.js'
import { emptyChunk, readReply, simpleReply, statusChunk } from './server-reply.js'
import { mostRuns, type Request } from './server-request.js'

/** What goes back to the client, and the buffer it was read into, if any, which is free when it has been sent. */
export interface Reply {
  readonly bytes: Uint8Array
  readonly buffer?: Uint8Array
}

/** Carries out a request that was not refused. Rejects with whatever the backend says. */
export function execute(
  request: Request,
  pieces: readonly Uint8Array[],
  session: Session,
  buffers: ReadBuffers,
): Promise<Reply> {
  if (request.type === command.read) return read(request, session, buffers)
  if (request.type === command.blockStatus) return blockStatus(request, session)
  return change(request, pieces, session)
}

async function read(request: Request, { backend, structured }: Session, buffers: ReadBuffers): Promise<Reply> {
  const { offset, length } = request
  if (length === 0) return { bytes: structured ? emptyChunk(request) : simpleReply(request, 0) }
  const buffer = buffers.take(length)
  await backend.read(buffer.subarray(headroomBytes, headroomBytes + length), offset)
  return { bytes: readReply(request, buffer, structured), buffer }
}

async function change(request: Request, pieces: readonly Uint8Array[], { backend }: Session): Promise<Reply> {
  const { type, flags, offset, length } = request
  if (type === command.flush) await backend.flush()
  else if (length > 0) {
    if (type === command.write) await backend.write(pieces, offset)
    else if (type === command.trim) await backend.trim(offset, length)
    else await backend.zero(offset, length, { punch: (flags & commandFlag.noHole) === 0 })
    if ((flags & commandFlag.fua) !== 0) await backend.flush()
  }
  return { bytes: simpleReply(request, 0) }
}

async function blockStatus(request: Request, { contexts }: Session): Promise<Reply> {
  const most = (request.flags & commandFlag.reqOne) !== 0 ? 1 : mostRuns
  const chunks: Buffer[] = []
  for (const [index, context] of contexts.entries()) {
    const runs = await context.status(request.offset, request.length, most)
    chunks.push(statusChunk(request, index + 1, runs.slice(0, most), index === contexts.length - 1))
  }
  return { bytes: Buffer.concat(chunks) }
}
