import * as zlib from 'node:zlib'
import { RefpointError } from '../model/errors.js'
import type { Codec } from './codec.js'
import { frameDefect } from './frame-layout.js'

/** The part of node:zlib that came with Node 22.15 and 23.8. */
interface ZstdFunctions {
  zstdCompressSync(content: Uint8Array, options: ZstdOptions): Uint8Array
  zstdDecompressSync(frame: Uint8Array, options: ZstdOptions): Uint8Array
  constants: { ZSTD_c_compressionLevel: number }
}

interface ZstdOptions {
  chunkSize: number
  maxOutputLength: number
  pledgedSrcSize?: number
  params?: Record<number, number>
}

/** node:zlib's zstd, or undefined where this runtime has none. */
export function zlibCodec(): Codec | undefined {
  if (!('zstdCompressSync' in zlib)) return undefined
  const zstd = zlib as unknown as ZstdFunctions

  function compress(content: Uint8Array, level: number): Uint8Array {
    const bound = Math.max(compressBound(content.length), 64)
    return zstd.zstdCompressSync(content, {
      chunkSize: bound,
      maxOutputLength: bound,
      pledgedSrcSize: content.length,
      params: { [zstd.constants.ZSTD_c_compressionLevel]: level },
    })
  }

  function decompress(frame: Uint8Array, contentBytes: number): Uint8Array {
    const defect = frameDefect(frame, contentBytes)
    if (defect !== undefined) throw new RefpointError('damaged', `bad compressed data: ${defect}`)
    let content: Uint8Array
    try {
      // One byte of room above the content lets the decoder reach the frame's end without a second buffer.
      const limit = Math.max(contentBytes + 1, 64)
      content = zstd.zstdDecompressSync(frame, { chunkSize: limit, maxOutputLength: limit })
    } catch (cause) {
      throw new RefpointError('damaged', 'bad compressed data: it can not be decompressed', { cause })
    }
    if (content.length !== contentBytes) {
      throw new RefpointError('damaged', `bad compressed data: ${content.length} bytes, expected ${contentBytes}`)
    }
    return content
  }

  return {
    name: 'zlib',
    compress,
    decompress,
    lendCompressed: (content, level, use) => lend(compress(content, level), use),
    lendDecompressed: (frame, contentBytes, use) => lend(decompress(frame, contentBytes), use),
  }
}

/** Every call of zlib allocates its result anew; smaller ones than this may lie in a buffer that others share. */
const OWN_BUFFER_BYTES = 256 * 1024

/**
 * Frees a large result at once. Left to the collector, a mebibyte for each frame makes it run every few frames: that
 * cost a fifth of the processor time.
 */
function lend<Result>(bytes: Uint8Array, use: (bytes: Uint8Array) => Result): Result {
  try {
    return use(bytes)
  } finally {
    const { buffer } = bytes as { buffer: ArrayBufferLike & { transfer?: (bytes: number) => unknown } }
    if (buffer.byteLength >= Math.max(OWN_BUFFER_BYTES, Buffer.poolSize + 1)) buffer.transfer?.(0)
  }
}

/** The most that one frame of so much content takes: zstd's ZSTD_COMPRESSBOUND. */
function compressBound(contentBytes: number): number {
  const small = contentBytes < 128 * 1024 ? (128 * 1024 - contentBytes) >> 11 : 0
  return contentBytes + (contentBytes >> 8) + small
}
