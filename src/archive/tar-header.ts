import { once } from 'node:events'
import { type Pack, pack } from 'tar-stream'

/**
 * The header blocks of a tar member (several where a long name needs a pax header), as tar-stream packs them:
 * what it emits before the first byte of the payload.
 */
export async function tarHeader(name: string, bytes: number, time: Date): Promise<Uint8Array> {
  const stream = pack()
  const failed = new Promise<never>((_, reject) => stream.once('error', reject))
  const entry = stream.entry({ name, size: bytes, mode: 0o600, mtime: time, type: 'file' })
  // Destroying an entry whose payload never came is an error to tar-stream, and what is meant here.
  entry.once('error', () => undefined)
  await Promise.race([once(stream, 'readable'), failed])
  const blocks: Buffer[] = []
  for (let block = read(stream); block !== null; block = read(stream)) blocks.push(block)
  failed.catch(() => undefined)
  stream.destroy()
  const header = Buffer.concat(blocks)
  if (header.length === 0 || header.length % 512 !== 0) throw new Error(`tar-stream packed no header for ${name}`)
  return header
}

function read(stream: Pack): Buffer | null {
  const piece: unknown = stream.read()
  return Buffer.isBuffer(piece) ? piece : null
}
