import { z } from 'zod'
import { RefpointError } from '../model/errors.js'
import { FRAME_CONTENT_BYTES } from '../model/geometry.js'
import { archiveDamage, reasonOf } from './archive-damage.js'
import { type ArchiveHeader, type ArchiveIndex, headerEnvelope, headerSchema, indexSchema } from './archive-header.js'
import {
  CONFIG_FILE_LIMIT,
  HEADER_MEMBER,
  INDEX_MEMBER,
  KNOWN_FEATURES,
  filled,
  isConfigPath,
  isStoreName,
} from './format.js'
import type { FrameReader } from './frame-reader.js'

/** Reads and checks `refpoint.json`. Throws `no-repository` for an archive that needs a newer version. */
export async function readHeader(frames: FrameReader): Promise<ArchiveHeader> {
  const json = parseJson(frames, HEADER_MEMBER, await frames.member(HEADER_MEMBER, 0, 1, HEADER_MEMBER))
  const envelope = check(frames, HEADER_MEMBER, headerEnvelope, json)
  const unknown = envelope.requires.find((feature) => !KNOWN_FEATURES.includes(feature))
  const needs = unknown !== undefined ? `feature ${unknown}` : envelope.format > 1 ? `format ${envelope.format}` : ''
  if (needs !== '') {
    throw new RefpointError('no-repository', `archive ${frames.archive} needs a newer refpoint: ${needs}`, {
      hint: 'Install a newer version of refpoint to read it.',
      fields: { archive: frames.archive, needs },
    })
  }
  const header = check(frames, HEADER_MEMBER, headerSchema, json)
  const names = header.stores.map((store) => store.name)
  const bad = names.find((name, index) => !isStoreName(name) || names.indexOf(name) !== index)
  if (bad !== undefined) throw archiveDamage(frames.archive, HEADER_MEMBER, `'${bad}' is no name of a store of its own`)
  return header
}

/** Reads and checks `index.json` against the header. */
export async function readIndex(frames: FrameReader, header: ArchiveHeader): Promise<ArchiveIndex> {
  const damage = (found: string) => archiveDamage(frames.archive, INDEX_MEMBER, found)
  const last = frames.frames.count - 3
  const json = parseJson(frames, INDEX_MEMBER, await frames.member(INDEX_MEMBER, last, 1, INDEX_MEMBER))
  const index = check(frames, INDEX_MEMBER, indexSchema, json)
  if (index.point !== header.point) throw damage(`it is of point ${index.point}, the header of ${header.point}`)
  const stores = index.stores.map((store) => store.name).join(' ')
  const expected = header.stores.map((store) => store.name).join(' ')
  if (stores !== expected) throw damage(`it names the stores ${stores}, the header ${expected}`)
  for (const file of index.members.config) {
    if (!isConfigPath(file.path)) throw damage(`'${file.path}' is no path within the configuration`)
    if (file.bytes > CONFIG_FILE_LIMIT) throw damage(`${file.path} is larger than 64 MiB`)
    if (file.frames !== Math.ceil(filled(file.bytes) / FRAME_CONTENT_BYTES)) {
      throw damage(`${file.path} has ${file.frames} frames for ${file.bytes} bytes`)
    }
    const end = file.headerFrame + file.frames
    if (file.headerFrame < 2 || end >= last) throw damage(`${file.path} is in frames that do not exist`)
  }
  const paths = new Set(index.members.config.map((file) => file.path))
  if (paths.size !== index.members.config.length) throw damage('a configuration file is there twice')
  return index
}

function parseJson(frames: FrameReader, section: string, content: Buffer): unknown {
  try {
    return JSON.parse(content.toString('utf8'))
  } catch (error) {
    throw archiveDamage(frames.archive, section, `it is no JSON: ${reasonOf(error)}`, error)
  }
}

function check<T>(frames: FrameReader, section: string, schema: z.ZodType<T>, json: unknown): T {
  const result = schema.safeParse(json)
  if (result.success) return result.data
  const found = result.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`).join('; ')
  throw archiveDamage(frames.archive, section, found, result.error)
}
