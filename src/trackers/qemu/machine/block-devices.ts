import * as z from 'zod'
import type { MachineDisk } from './document.js'
import { parseAnswer } from './qmp-commands.js'
import { imagePath, type OpenFile } from './open-images.js'

interface Image {
  readonly filename: string
  readonly format: string
  readonly 'virtual-size': number
  readonly 'backing-image'?: Image | undefined
}

const image: z.ZodType<Image> = z.lazy(() =>
  z.looseObject({
    filename: z.string(),
    format: z.string(),
    'virtual-size': z.number(),
    'backing-image': image.optional(),
  }),
)

const blockDevices = z.array(
  z.looseObject({
    device: z.string(),
    qdev: z.string().optional(),
    removable: z.boolean(),
    inserted: z.looseObject({ 'node-name': z.string().optional(), ro: z.boolean(), drv: z.string(), image }).optional(),
  }),
)

/** A disk as QEMU's `query-block` tells it; `store` is not known yet. */
export type BlockDevice = Omit<MachineDisk, 'store'>

const chainLimit = 256
/** What stands between a guest and its image, and is told as if it were one. */
const filters = new Set([
  'throttle',
  'copy-on-read',
  'copy-before-write',
  'compress',
  'preallocate',
  'blkdebug',
  'blkverify',
])

/** What is in QEMU's drives, by its answer to `query-block`: empty ones are left out. */
export async function readBlockDevices(
  answer: unknown,
  { workingDirectory, open }: { readonly workingDirectory: string; readonly open: readonly OpenFile[] },
): Promise<BlockDevice[]> {
  const found: BlockDevice[] = []
  for (const { device, qdev, removable, inserted } of parseAnswer(blockDevices, 'query-block', answer)) {
    if (inserted === undefined) continue
    const images: MachineDisk['images'] = []
    for (let at: Image | undefined = inserted.image; at !== undefined; at = at['backing-image']) {
      if (images.length === chainLimit) throw new Error(`the disk ${qdev ?? device} has more than ${chainLimit} images`)
      if (filters.has(at.format) && at['backing-image'] !== undefined) continue
      images.push({
        format: at.format,
        filename: at.filename,
        path: await imagePath(at.filename, workingDirectory, open),
      })
    }
    found.push({
      device: qdev ?? device,
      drive: device === '' ? null : device,
      node: inserted['node-name'] ?? '',
      format: images[0]?.format ?? inserted.drv,
      sizeBytes: inserted.image['virtual-size'],
      readOnly: inserted.ro,
      removable,
      images,
    })
  }
  return found
}
