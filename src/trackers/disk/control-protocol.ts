import { join } from 'node:path'
import { z } from 'zod'
import { RefpointError } from '../../model/errors.js'

/*
 * The control socket of a served disk: JSON lines. A request is `{id, op, …}`, its answer `{id, result}` or
 * `{id, error}`. Disks are named by the real paths of their folders. A temporary checkpoint lives as long as the
 * connection on which it was taken, so that of a killed backup goes by itself.
 */

export const maxLineLength = 1024 * 1024

const disks = z.array(z.string()).min(1)
const name = z.string()

export const requestSchema = z.intersection(
  z.object({ id: z.int() }),
  z.discriminatedUnion('op', [
    z.object({ op: z.literal('info') }),
    z.object({ op: z.literal('checkpoint'), disks }),
    z.object({ op: z.literal('release'), checkpoint: z.int() }),
    z.object({ op: z.literal('checkpointAs'), disks, name }),
    z.object({ op: z.literal('rollback'), disk: z.string(), name }),
    z.object({ op: z.literal('merge'), disk: z.string(), name }),
    z.object({ op: z.literal('resize'), disk: z.string(), sizeBytes: z.number() }),
  ]),
)

export type ControlRequest = z.infer<typeof requestSchema>
type WithoutId<T> = T extends unknown ? Omit<T, 'id'> : never
export type ControlCall = WithoutId<ControlRequest>

export const answerSchema = z.object({
  id: z.int(),
  result: z.unknown().optional(),
  error: z.object({ code: z.string(), message: z.string(), hint: z.string().optional() }).optional(),
})

export const serverInfoSchema = z.object({ server: z.string(), pid: z.int(), folders: z.array(z.string()) })

export const checkpointSchema = z.object({
  checkpoint: z.int(),
  time: z.string(),
  consistency: z.enum(['torn', 'crash', 'filesystem', 'offline']),
  disks: z.array(
    z.object({
      folder: z.string(),
      changeId: z.string(),
      source: z.object({
        kind: z.literal('layers'),
        sizeBytes: z.number(),
        blockBytes: z.number(),
        layers: z.array(z.object({ data: z.string(), map: z.string() })),
      }),
    }),
  ),
})

export const namedSchema = z.object({ time: z.string(), changeIds: z.array(z.string()) })
export const mergedSchema = z.object({ pending: z.boolean() })

/** @throws RefpointError `tracker` when the path is longer than a unix socket's may be. */
export function controlPath(folder: string): string {
  const path = join(folder, 'control.sock')
  if (Buffer.byteLength(path) < 108) return path
  throw new RefpointError('tracker', `${path} is too long for a unix socket: at most 107 bytes`, {
    hint: 'Move the disk to a folder with a shorter path, or serve it through a shorter symbolic link to its parent.',
    fields: { path },
  })
}
