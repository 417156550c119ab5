import { once } from 'node:events'
import { extract } from 'tar-stream'
import { tarEntryDefect } from './tar-entry-defect.js'

export interface ExtractedMember {
  readonly name: string
  readonly content: Buffer
}

/**
 * The only member of a piece of a tar stream (header blocks and padded payload), through tar-stream's own reader.
 * @throws Error when the piece holds no member, several, another type than a file, or is cut short.
 */
export async function extractMember(pieces: readonly Uint8Array[]): Promise<ExtractedMember> {
  const members: { name: string; pieces: Buffer[] }[] = []
  const stream = extract()
  stream.on('entry', (header, payload, next) => {
    const member = { name: header.name, pieces: [] as Buffer[] }
    members.push(member)
    // The stream's own error is what counts; one without a listener would end the process.
    payload.on('error', () => undefined)
    const defect = members.length > 1 ? `there is a second member, ${header.name}` : tarEntryDefect(header)
    if (defect !== undefined) return next(new Error(defect))
    payload.on('data', (piece: unknown) => {
      if (Buffer.isBuffer(piece)) member.pieces.push(piece)
    })
    payload.on('end', () => next())
    return undefined
  })
  const finished = once(stream, 'finish')
  // Set from the start: an error may come while a piece is being written.
  finished.catch(() => undefined)
  for (const piece of pieces) stream.write(Buffer.from(piece.buffer, piece.byteOffset, piece.length))
  stream.end(null)
  await finished
  const [member] = members
  if (member === undefined) throw new Error('there is no tar member')
  return { name: member.name, content: Buffer.concat(member.pieces) }
}
