import * as z from 'zod'
import { fullSchema, keepSchema } from './schema-retention.js'
import { hooks, limits, metrics, notify } from './schema-runs.js'
import { prune, schedule, spread, verify, zone } from './schema-schedule.js'
import { duration, integer, path, size } from './schema-values.js'

/** Names of machines and stores become names of folders and of archive members. */
const name = z
  .string()
  .regex(
    /^[a-z0-9][a-z0-9._-]{0,63}$/,
    'a name of at most 64 small letters, digits, ".", "_" and "-" that begins with a letter or digit',
  )

/** What one bit of a dirty bitmap can stand for. */
function isGranularity(bytes: number): boolean {
  return bytes >= 4096 && bytes <= 16 * 2 ** 20 && Number.isInteger(Math.log2(bytes))
}

const level = integer(1, 19)
const seconds = z.number('seconds, such as 5 or 0.5').min(0, 'at least 0').max(86_400, 'at most 86400')
/** `time`, with its unit, is an older way to write `seconds`. */
const audit = z
  .strictObject({ bytes: size.optional(), seconds: seconds.optional(), time: duration.optional() })
  .refine(({ seconds: one, time }) => one === undefined || time === undefined, 'either seconds or time')

/** What a machine may say for itself instead of the defaults. */
const overrides = {
  compression: z.strictObject({ level: level.optional() }).optional(),
  concurrency: z.strictObject({ stores: integer(1, 64).optional() }).optional(),
  audit: audit.optional(),
  schedule: schedule.optional(),
  hooks: hooks.optional(),
  keep: keepSchema.optional(),
  full: fullSchema.optional(),
}

const defaults = z.strictObject({
  compression: z
    .strictObject({
      level: level.optional(),
      workers: z.union([z.literal('auto'), integer(1, 256)], '"auto" or a whole number from 1 to 256').optional(),
    })
    .optional(),
  concurrency: z.strictObject({ machines: integer(1, 64).optional(), stores: integer(1, 64).optional() }).optional(),
  memory: size
    .refine((bytes) => bytes >= 8 * 2 ** 20 && bytes <= 64 * 2 ** 30, 'at least 8MiB and at most 64GiB')
    .optional(),
  audit: audit.optional(),
  schedule: schedule.optional(),
  spread: spread.optional(),
  hooks: hooks.optional(),
  keep: keepSchema.optional(),
  full: fullSchema.optional(),
})

/** A member path below `config/` in the archive: it must not lead out of the folder it is restored to. */
const memberPath = z
  .string()
  .regex(/^(?!.*(?:^|\/)\.{1,2}(?:\/|$))[^/\0]+(?:\/[^/\0]+)*$/, 'a relative file name without "." or ".." parts')
  .max(200, 'a file name of at most 200 characters')

const stores = <Store extends z.ZodType>(store: Store) =>
  z
    .record(name, store, 'stores by name, such as "root: …"')
    .refine((record) => Object.keys(record).length > 0, 'at least one store')

/** An image of a disk as `config.ts` has it, paths as they are written. */
export interface WrittenImage {
  path: string
  format: 'qcow2' | 'raw'
  backing?: WrittenImage | undefined
}

const imageFormat = z.enum(['qcow2', 'raw'], '"qcow2" or "raw"')
const backing: z.ZodType<WrittenImage> = z.lazy(() =>
  z.strictObject({ path, format: imageFormat, backing: backing.optional() }, 'an image: { path: …, format: … }'),
)
/** A path alone is that of a qcow2 image. */
const diskImage = z.preprocess(
  (value) => (typeof value === 'string' ? { path: value } : value),
  z.strictObject(
    { path, format: imageFormat.default('qcow2'), backing: backing.optional() },
    'a path, or { path: …, format: …, backing: … }',
  ),
)

const machine = z.discriminatedUnion('tracker', [
  z.strictObject({
    tracker: z.literal('disk'),
    stores: stores(path),
    files: z.record(memberPath, path).optional(),
    ...overrides,
  }),
  z.strictObject({
    tracker: z.literal('image'),
    stores: stores(
      z.preprocess(
        (value) => (typeof value === 'string' ? { path: value } : value),
        z.strictObject({ path, format: z.literal('raw', '"raw"').optional() }, 'a path, or { path: …, format: raw }'),
      ),
    ),
    allow: z.array(z.literal('torn', '"torn"'), 'a list, such as [torn]').optional(),
    files: z.record(memberPath, path).optional(),
    ...overrides,
  }),
  z.strictObject({
    tracker: z.literal('qemu'),
    qmp: path,
    agent: path.optional(),
    disks: z.strictObject({ exclude: z.array(name, 'a list of disks, such as [cdrom0]').optional() }).optional(),
    fleecing: z
      .strictObject({
        folder: path.optional(),
        limit: size.refine((bytes) => bytes >= 16 * 2 ** 20, 'at least 16MiB').optional(),
      })
      .optional(),
    granularity: size.refine(isGranularity, 'a power of two from 4KiB to 16MiB').optional(),
    images: z
      .union([z.literal('auto'), stores(diskImage)], '"auto", or images by disk: { vda: { path: …, format: … } }')
      .optional(),
    files: z.record(memberPath, path).optional(),
    ...overrides,
  }),
  z.strictObject({
    tracker: z.literal('qcow2'),
    stores: stores(diskImage),
    files: z.record(memberPath, path).optional(),
    ...overrides,
  }),
])

const repository = z.preprocess(
  (value) => (typeof value === 'string' ? { path: value } : value),
  z.strictObject({ path }, 'a path'),
)

/** The file as it is written. Messages say what is expected, and are shown as "expected …". */
export const configSchema = z.strictObject({
  repository,
  repositories: z.record(name, repository, 'repositories by name').optional(),
  defaults: defaults.optional(),
  notify: notify.optional(),
  metrics: metrics.optional(),
  verify: verify.optional(),
  prune: prune.optional(),
  limits: limits.optional(),
  zone: zone.optional(),
  machines: z
    .record(name, machine, 'machines by name')
    .refine((record) => Object.keys(record).length > 0, 'at least one machine'),
})

export type ConfigFile = z.output<typeof configSchema>
