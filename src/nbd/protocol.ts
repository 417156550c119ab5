/**
 * The numbers of the NBD protocol, as its specification (doc/proto.md of NetworkBlockDevice/nbd) names them.
 * Everything on the wire is big-endian.
 */

export const magic = {
  /** "NBDMAGIC" and "IHAVEOPT" as two 32-bit halves each: a BigInt per message would cost more than it says. */
  initHigh: 0x4e42444d,
  initLow: 0x41474943,
  optionHigh: 0x49484156,
  optionLow: 0x454f5054,
  optionReplyHigh: 0x0003e889,
  optionReplyLow: 0x045565a9,
  oldstyleHigh: 0x00004202,
  oldstyleLow: 0x81861253,
  request: 0x25609513,
  simpleReply: 0x67446698,
  structuredReply: 0x668e33ef,
} as const

export const handshakeFlag = { fixedNewstyle: 1, noZeroes: 2 } as const

export const transmissionFlag = {
  hasFlags: 1 << 0,
  readOnly: 1 << 1,
  sendFlush: 1 << 2,
  sendFua: 1 << 3,
  sendTrim: 1 << 5,
  sendWriteZeroes: 1 << 6,
  sendDf: 1 << 7,
  canMultiConn: 1 << 8,
  sendFastZero: 1 << 11,
} as const

export const option = {
  exportName: 1,
  abort: 2,
  list: 3,
  info: 6,
  go: 7,
  structuredReply: 8,
  listMetaContext: 9,
  setMetaContext: 10,
} as const

export const optionReply = {
  ack: 1,
  server: 2,
  info: 3,
  metaContext: 4,
  errorUnsupported: 0x80000001,
  errorPolicy: 0x80000002,
  errorInvalid: 0x80000003,
  errorUnknown: 0x80000006,
  errorShutdown: 0x80000007,
  errorTooBig: 0x80000009,
} as const

export const info = { export: 0, name: 1, description: 2, blockSize: 3 } as const

export const command = {
  read: 0,
  write: 1,
  disconnect: 2,
  flush: 3,
  trim: 4,
  writeZeroes: 6,
  blockStatus: 7,
} as const

export const commandFlag = { fua: 1, noHole: 2, df: 4, reqOne: 8, fastZero: 16 } as const

export const replyFlag = { done: 1 } as const

export const chunk = {
  none: 0,
  offsetData: 1,
  offsetHole: 2,
  blockStatus: 5,
  errorBit: 0x8000,
  error: 0x8001,
  errorOffset: 0x8002,
} as const

/** The errors that the protocol knows, by their names; anything else is sent and taken as EIO. */
export const nbdError = {
  EPERM: 1,
  EIO: 5,
  ENOMEM: 12,
  EINVAL: 22,
  ENOSPC: 28,
  EOVERFLOW: 75,
  ENOTSUP: 95,
  ESHUTDOWN: 108,
} as const

export type NbdErrorName = keyof typeof nbdError

/** Sizes in bytes. */
export const size = {
  requestHeader: 28,
  simpleReply: 16,
  chunkHeader: 20,
  optionHeader: 16,
  optionReplyHeader: 20,
  /** The longest string that the protocol allows. */
  string: 4096,
  /** The longest payload of a READ or WRITE that every implementation is expected to take. */
  maximumPayload: 32 * 1024 * 1024,
} as const
