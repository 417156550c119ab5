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
  return {
    name: 'zlib',
    compress(content, level) {
      const bound = compressBound(content.length)
      return zstd.zstdCompressSync(content, {
        chunkSize: Math.max(bound, 64),
        maxOutputLength: Math.max(bound, 64),
        pledgedSrcSize: content.length,
        params: { [zstd.constants.ZSTD_c_compressionLevel]: level },
      })
    },
    decompress(frame, contentBytes) {
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
    },
  }
}

/** The most that one frame of so much content takes: zstd's ZSTD_COMPRESSBOUND. */
function compressBound(contentBytes: number): number {
  const small = contentBytes < 128 * 1024 ? (128 * 1024 - contentBytes) >> 11 : 0
  return contentBytes + (contentBytes >> 8) + small
}
