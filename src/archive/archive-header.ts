import { z } from 'zod'
import type { Consistency } from '../model/reference-point.js'
import type { StoreMode } from '../model/manifest.js'

/** `refpoint.json`: what an archive is (FORMAT.md §3). */
export interface ArchiveHeader {
  readonly format: 1
  readonly requires: readonly string[]
  readonly optional: readonly string[]
  readonly agent: string
  readonly repositoryId: string
  readonly machine: string
  readonly machineUuid: string
  readonly point: number
  readonly parent: number | null
  readonly nonce: string
  /** ISO 8601, UTC. */
  readonly time: string
  readonly consistency: Consistency
  readonly stores: readonly ArchiveStore[]
}

export interface ArchiveStore {
  readonly name: string
  readonly kind: 'disk'
  readonly sizeBytes: number
  readonly mode: StoreMode
}

/** What must be understood before the rest may be looked at. */
export const headerEnvelope = z.object({
  format: z.int().positive(),
  requires: z.array(z.string()),
})

const count = z.int().nonnegative()

export const headerSchema = z.object({
  format: z.literal(1),
  requires: z.array(z.string()),
  optional: z.array(z.string()),
  agent: z.string(),
  repositoryId: z.string(),
  machine: z.string(),
  machineUuid: z.string(),
  point: z.int().positive(),
  parent: z.int().positive().nullable(),
  nonce: z.string(),
  time: z.iso.datetime(),
  consistency: z.enum(['torn', 'crash', 'filesystem', 'offline']),
  stores: z.array(
    z.object({
      name: z.string(),
      kind: z.literal('disk'),
      sizeBytes: count,
      mode: z.enum(['full', 'tracked', 'compared', 'refined']),
    }),
  ),
})

/** `index.json`: where the directories are (FORMAT.md §6). */
export const indexSchema = z.object({
  format: z.literal(1),
  point: z.int().positive(),
  stores: z.array(
    z.object({
      name: z.string(),
      directoryFrame: count,
      directoryFrames: count,
      windows: count,
      contentSum: z.string().regex(/^[0-9a-f]{64}$/).nullable(),
    }),
  ),
  members: z.object({
    config: z.array(z.object({ path: z.string(), headerFrame: count, frames: count, bytes: count })),
  }),
})

export type ArchiveIndex = z.infer<typeof indexSchema>
export type StoreIndex = ArchiveIndex['stores'][number]
export type ConfigIndex = ArchiveIndex['members']['config'][number]
