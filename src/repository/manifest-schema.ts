import { z } from 'zod'
import type { SlotManifest } from '../model/manifest.js'

const count = z.int().nonnegative()
const slot = z.int().positive()
const time = z.iso.datetime()
const sha256 = z.string().regex(/^[0-9a-f]{64}$/, 'not a SHA-256 in hex')

const distrust = z.object({ since: slot, what: z.string() }).nullable()

const store = z.object({
  name: z.string().regex(/^[a-z0-9][a-z0-9._-]{0,63}$/, 'not a legal store name'),
  kind: z.literal('disk'),
  sizeBytes: count,
  mode: z.enum(['full', 'tracked', 'compared', 'refined']),
  reason: z.string(),
  changeId: z.string().nullable(),
  dataExtents: count,
  zeroExtents: count,
  changedBytes: count,
  contentBytes: count,
  storedBytes: count,
  contentSum: sha256.nullable(),
  auditedTo: count,
  // Points of before it was kept in them.
  distrust: distrust.default(null),
})

const point = z.object({
  format: z.literal(1),
  requires: z.array(z.string()),
  optional: z.array(z.string()),
  type: z.literal('point'),
  repositoryId: z.string(),
  machine: z.string(),
  machineUuid: z.string(),
  point: slot,
  parent: slot.nullable(),
  nonce: z.string().min(1),
  revision: slot.exactOptional(),
  wholeAt: time.exactOptional(),
  tracker: z.string(),
  time,
  startedAt: time,
  durationMs: z.number().nonnegative(),
  consistency: z.enum(['torn', 'crash', 'filesystem', 'offline']),
  stores: z
    .array(store)
    .refine((stores) => new Set(stores.map(({ name }) => name)).size === stores.length, 'a store is named twice'),
  archive: z.object({ name: z.string(), bytes: count, sha256 }),
  warnings: z.array(z.string()),
  agent: z.string(),
  // Reserved: what a later version signs here, this one need not understand.
  signatures: z.array(z.unknown()).transform((): readonly never[] => []),
})

const audit = z.object({
  format: z.literal(1),
  requires: z.array(z.string()),
  type: z.literal('audit'),
  repositoryId: z.string(),
  machine: z.string(),
  machineUuid: z.string(),
  point: slot,
  against: slot,
  nonce: z.string().min(1),
  tracker: z.string(),
  time,
  durationMs: z.number().nonnegative(),
  stores: z.array(
    z.object({
      name: z.string(),
      auditedTo: count,
      distrust,
      checkedBlocks: count,
      missedBlocks: count,
      whole: z.boolean(),
    }),
  ),
  agent: z.string(),
})

const fold = z.object({
  format: z.literal(1),
  requires: z.array(z.string()),
  optional: z.array(z.string()),
  type: z.literal('fold'),
  machine: z.string(),
  machineUuid: z.string(),
  point: slot,
  nonce: z.string().min(1),
  time,
  agent: z.string(),
  dropped: z.array(z.tuple([slot, slot]).refine(([first, last]) => first <= last, 'a range that ends before it begins')),
  revisions: z.array(z.tuple([slot, slot])),
})

const aborted = z.object({
  format: z.literal(1),
  type: z.literal('aborted'),
  point: slot,
  nonce: z.string().min(1),
  time,
  reason: z.string(),
})

/** What may stand in a slot. Unknown keys are ignored. */
export const slotManifestSchema: z.ZodType<SlotManifest> = z.discriminatedUnion('type', [point, audit, aborted, fold])

/** Read before the rest, so that a newer format is told as such. */
export const manifestFormatSchema = z.looseObject({
  format: z.int().positive(),
  requires: z.array(z.string()).optional(),
})
