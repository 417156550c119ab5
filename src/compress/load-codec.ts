import { RefpointError } from '../model/errors.js'
import type { Codec } from './codec.js'
import { zlibCodec } from './zlib-codec.js'

let wasm: Promise<Codec> | undefined

/**
 * The fastest codec that this runtime has: node:zlib where it knows zstd (Node 22.15 and later), else zstd-codec.
 * `prefer`, or the environment's REFPOINT_CODEC, asks for one by name.
 * @throws RefpointError `usage` when the one asked for does not exist here.
 */
export async function loadCodec(prefer?: Codec['name']): Promise<Codec> {
  const wanted = prefer ?? process.env['REFPOINT_CODEC']
  if (wanted !== undefined && wanted !== '' && wanted !== 'zlib' && wanted !== 'zstd-codec') {
    throw new RefpointError('usage', `there is no codec named ${wanted}`, {
      hint: 'REFPOINT_CODEC may be zlib or zstd-codec.',
    })
  }
  if (wanted !== 'zstd-codec') {
    const native = zlibCodec()
    if (native !== undefined) return native
    if (wanted === 'zlib') {
      throw new RefpointError('usage', `node:zlib of Node ${process.versions.node} has no zstd`, {
        hint: 'It came with Node 22.15; without REFPOINT_CODEC=zlib the package zstd-codec is used.',
      })
    }
  }
  wasm ??= import('./zstd-codec.js').then((module) => module.loadZstdCodec())
  return wasm
}
