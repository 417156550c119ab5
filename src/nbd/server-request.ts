import type { Backend } from './backend.js'
import type { Session } from './server-handshake.js'
import { command, commandFlag, magic, nbdError, size } from './protocol.js'
import type { ErrorReply } from './error-reply.js'
import { bufferBytes } from './read-buffers.js'
import { largestRequest } from './server-options.js'

/** One request as it came: nothing in it is to be trusted before `refuse` has seen it. */
export interface Request {
  readonly type: number
  readonly flags: number
  /** The client's handle, as two halves that go back as they came. */
  readonly handleHigh: number
  readonly handleLow: number
  readonly offset: number
  readonly length: number
}

/** Undefined for what is not a request at all. Offsets above 2^53 come out as imprecise, and far past every end. */
export function parseRequest(header: Buffer): Request | undefined {
  if (header.readUInt32BE(0) !== magic.request) return undefined
  return {
    flags: header.readUInt16BE(4),
    type: header.readUInt16BE(6),
    handleHigh: header.readUInt32BE(8),
    handleLow: header.readUInt32BE(12),
    offset: header.readUInt32BE(16) * 2 ** 32 + header.readUInt32BE(20),
    length: header.readUInt32BE(24),
  }
}

/** The flags that each command may carry; FUA may come with any. */
const flagsOf = new Map<number, number>([
  [command.read, commandFlag.df],
  [command.write, 0],
  [command.flush, 0],
  [command.trim, 0],
  [command.writeZeroes, commandFlag.noHole | commandFlag.fastZero],
  [command.blockStatus, commandFlag.reqOne],
])

const writing: ReadonlySet<number> = new Set([command.write, command.trim, command.writeZeroes])

/** Why a request is not carried out; undefined when it is. */
export function refuse(request: Request, session: Session): ErrorReply | undefined {
  const { type, flags, offset, length } = request
  const { backend, structured } = session
  const allowed = flagsOf.get(type)
  if (allowed === undefined) return invalid(`unknown command ${type}`)
  if ((flags & ~(allowed | commandFlag.fua)) !== 0) return invalid(`flags 0x${flags.toString(16)} with command ${type}`)
  if ((flags & commandFlag.df) !== 0 && !structured) return invalid('DF without structured replies')
  if (type === command.flush) return offset === 0 && length === 0 ? undefined : invalid('a FLUSH of a range')
  if (writing.has(type) && backend.readOnly) return { error: nbdError.EPERM, message: 'the export is read-only' }
  if (offset > backend.sizeBytes || length > backend.sizeBytes - offset) return pastEnd(type, backend)
  const { minimum } = backend.blockSizes
  if (offset % minimum !== 0 || length % minimum !== 0) return invalid(`not a multiple of ${minimum} bytes`)
  if ((type === command.read || type === command.write) && length > largestRequest(backend)) {
    return invalid(`more than ${largestRequest(backend)} bytes at once`)
  }
  if (type === command.blockStatus && (session.contexts.length === 0 || length === 0)) {
    return invalid(length === 0 ? 'status of nothing' : 'no meta context was selected')
  }
  if ((flags & commandFlag.fastZero) !== 0) {
    // Nothing here can promise to be faster than writing, and the protocol lets a server always say so.
    return { error: nbdError.ENOTSUP, message: 'not known to be fast' }
  }
  return undefined
}

const requestOverheadBytes = 1024
/** Runs of a BLOCK_STATUS reply per context, and what they may take as objects and as bytes. */
export const mostRuns = 2048
const runBytes = 64

/** What a request may hold in memory from here to the end of its reply, in bytes; never less. */
export function costBytes(request: Request, session: Session): number {
  if (request.type === command.read) return requestOverheadBytes + bufferBytes(request.length)
  // A payload's views may keep an eighth more alive than they show.
  if (request.type === command.write) return requestOverheadBytes + Math.ceil((request.length * 8) / 7)
  if (request.type !== command.blockStatus) return requestOverheadBytes
  const runs = (request.flags & commandFlag.reqOne) !== 0 ? 1 : mostRuns
  return requestOverheadBytes + runs * runBytes * session.contexts.length
}

/** The most that `costBytes` ever says. */
export const mostCostBytes = requestOverheadBytes + Math.ceil((size.maximumPayload * 8) / 7)

function invalid(message: string): ErrorReply {
  return { error: nbdError.EINVAL, message }
}

function pastEnd(type: number, backend: Backend): ErrorReply {
  const error = type === command.write || type === command.writeZeroes ? nbdError.ENOSPC : nbdError.EINVAL
  return { error, message: `past the end of the export at ${backend.sizeBytes}` }
}
