import { join } from 'node:path'
import { z } from 'zod'
import type { Files } from '../../files/files.js'
import { RefpointError } from '../../model/errors.js'

const diskFileName = 'disk.json'

const layerSchema = z.strictObject({
  id: z.int().min(0),
  /** The user's checkpoint that froze this layer and all below it. */
  name: z.string().optional(),
  /** ISO 8601, UTC: when that was. */
  time: z.string().optional(),
})

const schema = z.object({
  format: z.literal(1),
  uuid: z.uuid(),
  sizeBytes: z.int().min(512),
  blockBytes: z.int().min(4096).max(1024 * 1024),
  /** The current generation: that of the next write. Never goes back, never used twice. */
  generation: z.int().min(1).max(0xffff_fffe),
  /** The id of the next layer; ids are never used twice. */
  nextLayer: z.int().min(1),
  /** Lowest first. The last one is the top. */
  layers: z.array(layerSchema).min(1),
  /** An operation that was decided and may be half done: whoever opens the disk finishes it. */
  intent: z
    .discriminatedUnion('kind', [
      /** `layers` is already as it shall be; blocks present in the discarded ones get generation `stamp`. */
      z.strictObject({ kind: z.literal('rollback'), stamp: z.int(), discarded: z.array(z.int()) }),
      z.strictObject({ kind: z.literal('resize'), stamp: z.int(), sizeBytes: z.int().min(512) }),
    ])
    .nullable(),
})

export type DiskFile = z.infer<typeof schema>
export type LayerRecord = DiskFile['layers'][number]

export function dataPath(folder: string, id: number): string {
  return join(folder, `layer-${id}.raw`)
}

export function mapPath(folder: string, id: number): string {
  return join(folder, `layer-${id}.map`)
}

/** @throws RefpointError `tracker` when the folder holds no tracked disk, `damaged` when its description is broken. */
export async function readDiskFile(files: Files, folder: string): Promise<DiskFile> {
  const path = join(folder, diskFileName)
  let text: string
  try {
    text = new TextDecoder().decode(await files.readFile(path))
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (code !== 'ENOENT' && code !== 'ENOTDIR') {
      throw new RefpointError('io', `cannot read ${path}: ${(error as Error).message}`, { cause: error })
    }
    throw new RefpointError('tracker', `${folder} is not a tracked disk: there is no ${diskFileName} in it`, {
      cause: error,
      hint: 'Create one with `refpoint disk create` or `refpoint disk import`.',
      fields: { folder },
    })
  }
  const parsed = schema.safeParse(parseJson(text))
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  throw new RefpointError('damaged', `${path} is damaged: ${issue?.path.join('.') || 'content'}: ${issue?.message}`, {
    hint: 'It may also have been written by a newer refpoint.',
    fields: { folder },
  })
}

/** Replaces the description as a whole; durable when it resolves. */
export async function writeDiskFile(files: Files, folder: string, disk: DiskFile): Promise<void> {
  const temporary = join(folder, `${diskFileName}.new`)
  if (await files.exists(temporary)) await files.unlink(temporary)
  const handle = await files.open(temporary, 'create')
  try {
    await handle.write([Buffer.from(`${JSON.stringify(disk, undefined, 2)}\n`)], 0)
    await handle.sync()
  } finally {
    await handle.close()
  }
  await files.rename(temporary, join(folder, diskFileName))
  await files.syncFolder(folder)
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
