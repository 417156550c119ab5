import * as z from 'zod'

/* What is used of QEMU's answers; everything else in them is let go. */

export const bitmapReply = z.object({
  name: z.string().optional(),
  granularity: z.number(),
  recording: z.boolean(),
  busy: z.boolean(),
  persistent: z.boolean(),
  inconsistent: z.boolean().optional(),
})

export const nodeReply = z.object({
  'node-name': z.string(),
  drv: z.string(),
  ro: z.boolean(),
  file: z.string(),
  image: z.object({
    filename: z.string(),
    'virtual-size': z.number(),
    'backing-filename': z.string().optional(),
    'format-specific': z
      .object({ type: z.string(), data: z.object({ compat: z.string().optional() }).optional() })
      .optional(),
  }),
  'dirty-bitmaps': z.array(bitmapReply).optional(),
})

export const nodesReply = z.array(nodeReply)

export const devicesReply = z.array(
  z.object({
    /** Of a disk given by -drive; '' otherwise. */
    device: z.string(),
    qdev: z.string().optional(),
    removable: z.boolean(),
    inserted: z.object({ 'node-name': z.string(), ro: z.boolean() }).optional(),
  }),
)

export const graphReply = z.object({
  nodes: z.array(z.object({ id: z.number(), name: z.string(), type: z.string() })),
  edges: z.array(z.object({ parent: z.number(), child: z.number(), name: z.string() })),
})

export const exportsReply = z.array(z.object({ id: z.string(), 'node-name': z.string() }))

export const jobsReply = z.array(z.object({ id: z.string(), status: z.string(), error: z.string().optional() }))

export const statusReply = z.object({ status: z.string() })

export const cpusReply = z.array(z.object({ 'thread-id': z.number() }))

export const objectsReply = z.array(z.object({ name: z.string(), type: z.string() }))

export type NodeReply = z.output<typeof nodeReply>
export type BitmapReply = z.output<typeof bitmapReply>
