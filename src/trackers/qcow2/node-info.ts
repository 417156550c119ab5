import * as z from 'zod'
import { RefpointError } from '../../model/errors.js'
import type { BitmapState } from '../bitmaps/change-id.js'

const nodes = z.array(
  z.object({
    'node-name': z.string(),
    image: z.object({ 'virtual-size': z.int().min(0) }),
    'dirty-bitmaps': z
      .array(
        z.object({
          name: z.string().optional(),
          recording: z.boolean(),
          inconsistent: z.boolean().optional(),
          granularity: z.int(),
        }),
      )
      .optional(),
  }),
)

/** What QEMU tells of an open image. */
export interface NodeInfo {
  readonly sizeBytes: number
  /** By name. */
  readonly bitmaps: ReadonlyMap<string, BitmapState>
}

/** Reads the answer to `query-named-block-nodes`, by node. @throws RefpointError `tracker` when it is none. */
export function readNodes(answer: unknown): ReadonlyMap<string, NodeInfo> {
  const parsed = nodes.safeParse(answer)
  if (!parsed.success) {
    throw new RefpointError('tracker', 'qemu-storage-daemon tells of its nodes in a way that is not known here', {
      cause: parsed.error,
    })
  }
  return new Map(
    parsed.data.map((node) => {
      const bitmaps = new Map<string, BitmapState>()
      for (const { name, recording, inconsistent = false, granularity } of node['dirty-bitmaps'] ?? []) {
        if (name !== undefined) bitmaps.set(name, { granularityBytes: granularity, recording, inconsistent })
      }
      return [node['node-name'], { sizeBytes: node.image['virtual-size'], bitmaps }]
    }),
  )
}
