import { hash } from 'node:crypto'
import { DIGEST_BYTES } from '../../model/geometry.js'

const computed = Buffer.alloc(DIGEST_BYTES)

/**
 * Writes the digest of a whole digest block to the first 16 bytes of `into`. By way of a string: where crypto.hash
 * makes a Buffer, each has memory of its own for the collector to find.
 */
export function digestInto(into: Buffer, bytes: Uint8Array): void {
  into.write(hash('sha256', bytes, 'binary'), 0, DIGEST_BYTES, 'latin1')
}

export function hasDigest(bytes: Uint8Array, expected: Uint8Array): boolean {
  digestInto(computed, bytes)
  return computed.equals(expected)
}
