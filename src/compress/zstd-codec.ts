import { createRequire } from 'node:module'
import { RefpointError } from '../model/errors.js'
import type { Codec } from './codec.js'
import { frameDefect } from './frame-layout.js'

/** A std::vector<unsigned char> in the WASM heap. */
interface Vector {
  resize(bytes: number, fill: number): void
  size(): number
}

interface Binding {
  readonly VectorU8: new () => Vector
  readonly ZstdCodec: new () => {
    compressBound(contentBytes: number): number
    /** Both return the bytes written into the vector, or a negative number. */
    compress(into: Vector, content: Vector, level: number): number
    decompress(into: Vector, frame: Vector): number
  }
  /** A view into the WASM heap: void as soon as the heap grows. */
  toTypedArrayView(vector: Vector): Uint8Array
}

/** The package's heap is 16 MiB and can't grow: more content, or a higher level, does not fit and kills the module. */
const CONTENT_LIMIT = 1024 * 1024
const LEVEL_LIMIT = 9

/**
 * The package zstd-codec, zstd compiled to WASM. Loading it takes a while, so nothing loads it before it is needed.
 *
 * It uses the package's binding and not its `Simple`, which makes two new vectors per call, fills them with zeroes and
 * copies byte vectors twice: keeping the vectors is 1.15 times as fast in compressing, and 1.3 in decompressing.
 * Levels above 9 do not fit into its memory and are compressed at level 9.
 */
export async function loadZstdCodec(): Promise<Codec> {
  const require = createRequire(import.meta.url)
  const module = require('zstd-codec/lib/module.js') as { run(ready: (binding: Binding) => void): void }
  // The binding has a method `then`: a promise must not be resolved with it.
  return new Promise((resolve, reject) => {
    try {
      module.run((binding) => resolve(overBinding(binding)))
    } catch (error) {
      reject(error)
    }
  })
}

function overBinding(binding: Binding): Codec {
  const zstd = new binding.ZstdCodec()
  const source = new binding.VectorU8()
  const result = new binding.VectorU8()

  function load(bytes: Uint8Array, resultBytes: number, contentBytes: number): void {
    if (contentBytes > CONTENT_LIMIT) throw new RangeError(`a frame holds at most 1 MiB, not ${contentBytes} bytes`)
    source.resize(bytes.length, 0)
    if (result.size() < resultBytes) result.resize(resultBytes, 0)
    if (bytes.length > 0) binding.toTypedArrayView(source).set(bytes)
  }

  /** A view into the heap, void after the next call. */
  function compress(content: Uint8Array, level: number): Uint8Array {
    load(content, zstd.compressBound(content.length), content.length)
    const bytes = zstd.compress(result, source, Math.min(level, LEVEL_LIMIT))
    if (bytes <= 0) throw new Error(`zstd-codec can not compress ${content.length} bytes at level ${level}`)
    return binding.toTypedArrayView(result).subarray(0, bytes)
  }

  /** A view into the heap, void after the next call. */
  function decompress(frame: Uint8Array, contentBytes: number): Uint8Array {
    const defect = frameDefect(frame, contentBytes)
    if (defect !== undefined) throw new RefpointError('damaged', `bad compressed data: ${defect}`)
    load(frame, Math.max(contentBytes, 1), contentBytes)
    let bytes: number
    try {
      bytes = zstd.decompress(result, source)
    } catch (cause) {
      throw new RefpointError('damaged', 'bad compressed data: it can not be decompressed', { cause })
    }
    if (bytes !== contentBytes) {
      throw new RefpointError('damaged', 'bad compressed data: it can not be decompressed')
    }
    return binding.toTypedArrayView(result).subarray(0, contentBytes)
  }

  return {
    name: 'zstd-codec',
    compress: (content, level) => compress(content, level).slice(),
    decompress: (frame, contentBytes) => decompress(frame, contentBytes).slice(),
    lendCompressed: (content, level, use) => use(compress(content, level)),
    lendDecompressed: (frame, contentBytes, use) => use(decompress(frame, contentBytes)),
  }
}
