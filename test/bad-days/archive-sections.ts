import { readFileSync } from 'node:fs'
import { loadCodec } from '../../src/compress/load-codec.js'

/** A piece of an archive file. Bytes. */
export interface Section {
  readonly name: string
  readonly offset: number
  readonly length: number
}

/**
 * Where the payload of each member is in the file, by the seek table and the tar headers alone; and the seek table.
 * Members without payload are left out.
 */
export async function archiveSections(path: string): Promise<readonly Section[]> {
  const codec = await loadCodec()
  const file = readFileSync(path)
  const count = file.readUInt32LE(file.length - 9)
  const table = file.length - 17 - 8 * count
  const sections: Section[] = [{ name: 'seek table', offset: table, length: file.length - table }]
  let offset = 0
  let member: { name: string; offset: number; left: number } | undefined
  for (let frame = 0; frame < count; frame += 1) {
    const stored = file.readUInt32LE(table + 8 + 8 * frame)
    const content = file.readUInt32LE(table + 12 + 8 * frame)
    if (member === undefined) {
      const header = Buffer.from(codec.decompress(file.subarray(offset, offset + stored), content))
      const name = header.subarray(0, 100).toString('latin1').replace(/\0.*$/, '')
      const bytes = Number.parseInt(header.subarray(124, 135).toString('latin1'), 8)
      if (name !== '' && bytes > 0) member = { name, offset: offset + stored, left: Math.ceil(bytes / 512) * 512 }
    } else {
      member.left -= content
      if (member.left <= 0) {
        const { name, offset: begin } = member
        sections.push({ name, offset: begin, length: offset + stored - begin })
        member = undefined
      }
    }
    offset += stored
  }
  return sections
}
