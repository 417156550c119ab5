import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import type { Files } from '../../files/files.js'

/** The file of nonces: eight random bytes per ended generation at offset 8·g; zeroes where none was ever told. */
export function generationsPath(folder: string): string {
  return join(folder, 'generations')
}

/**
 * Gives the ended generation `generation` its nonce and returns it, durable, as 16 hex digits. The nonce is made only
 * now, when the generation has ended: two copies of a folder that are both written on end it with different nonces,
 * so neither is taken for the other.
 */
export async function assignNonce(files: Files, folder: string, generation: number): Promise<string> {
  const nonce = randomBytes(8)
  const handle = await files.open(generationsPath(folder), 'write')
  try {
    await handle.write([nonce], generation * 8)
    await handle.sync()
  } finally {
    await handle.close()
  }
  return nonce.toString('hex')
}

/** A generation's nonce as 16 hex digits, or undefined when it never had one. */
export async function readNonce(files: Files, folder: string, generation: number): Promise<string | undefined> {
  const handle = await files.open(generationsPath(folder), 'read')
  try {
    const nonce = Buffer.alloc(8)
    const count = await handle.read(nonce, generation * 8)
    return count < 8 || nonce.every((byte) => byte === 0) ? undefined : nonce.toString('hex')
  } finally {
    await handle.close()
  }
}
