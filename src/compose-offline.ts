/*
 * The composition root of machines that are shut down, or may be: their qcow2 images keep track of changes themselves,
 * their raw ones are read like any other; and which images they are, the configuration says, or the newest point that
 * was taken while the machine ran.
 */
import type { QemuMachineConfig } from './config/config.js'
import { RefpointError } from './model/errors.js'
import { joinTrackers } from './trackers/combined/join-trackers.js'
import { liveOrOffline, type OfflineMachine } from './trackers/combined/live-or-offline.js'
import { findOverlays } from './trackers/qcow2/overlays.js'
import type { PinnedImage } from './trackers/qcow2/pinned-image.js'
import { type RecalledMachine, recallMachine } from './trackers/qemu/machine/recall-machine.js'
import type { CheckpointOptions, Tracker } from './trackers/tracker.js'

type Images = Readonly<Record<string, PinnedImage>>

/** A tracker of images, at least one, while no machine runs on them. */
export async function buildOfflineTracker(images: Images, granularityBytes?: number): Promise<Tracker> {
  const all = Object.entries(images)
  const qcow2 = all.filter(([, { format }]) => format === 'qcow2')
  const raw = all.filter(([, { format }]) => format === 'raw')
  const parts: Tracker[] = []
  if (qcow2.length > 0) {
    const { createQcow2Tracker } = await import('./trackers/qcow2/qcow2-tracker.js')
    parts.push(createQcow2Tracker({ images: Object.fromEntries(qcow2), granularityBytes }))
  }
  if (raw.length > 0) {
    const { createImageTracker } = await import('./trackers/image/image-tracker.js')
    const stores = Object.fromEntries(raw.map(([name, { path }]) => [name, { path, format: 'raw' as const }]))
    parts.push(createImageTracker({ stores, allowTorn: false }))
  }
  return joinTrackers(parts)
}

/** A tracker of a machine that may run, and is found by its images when it does not. */
export function withOffline(live: Tracker, machine: QemuMachineConfig, images: NonNullable<QemuMachineConfig['images']>) {
  return liveOrOffline({
    live,
    isOff,
    findOffline: async (recall) => await findOffline(machine, images, recall),
  })
}

/** Nobody listens on the QMP socket, or there is none. */
export function isOff(error: unknown): boolean {
  if (!(error instanceof RefpointError && error.code === 'tracker' && 'qmp' in error.fields)) return false
  const { cause } = error
  return cause instanceof Error && 'code' in cause && ['ENOENT', 'ECONNREFUSED'].includes(String(cause.code))
}

async function findOffline(
  { name, qmp, exclude, granularityBytes }: QemuMachineConfig,
  images: NonNullable<QemuMachineConfig['images']>,
  recall: CheckpointOptions['recall'],
): Promise<OfflineMachine> {
  const recalled = await recallMachine(recall)
  if (images === 'auto' && recalled === undefined) {
    throw new RefpointError('tracker', `machine '${name}' does not run (${qmp}), and no point knows its disks`, {
      hint:
        'Back it up once while it runs: then its images are known. ' +
        'Or name them: images: { vda: { path: …, format: qcow2 or raw } }.',
      fields: { machine: name, qmp },
    })
  }
  const pinned = images === 'auto' ? pinnedImages(name, exclude, recalled) : images
  const warnings = images === 'auto' ? refuseOverlays(name, pinned, recalled) : []
  return {
    tracker: await buildOfflineTracker(pinned, granularityBytes),
    files: recalled?.files ?? [],
    warnings: [...(recalled?.warnings ?? []), ...warnings],
  }
}

/** What QEMU had open when the machine was last backed up while it ran. */
function pinnedImages(machine: string, exclude: readonly string[], recalled: RecalledMachine | undefined): Images {
  const images: Record<string, PinnedImage> = {}
  for (const { store, images: chain } of recalled?.disks ?? []) {
    if (store === null || exclude.includes(store)) continue
    const pinned = chain.reduceRight<PinnedImage | undefined>((backing, { format, path, filename }) => {
      const known = formats.get(format)
      if (known === undefined || path === null) {
        throw unreadable(machine, store, path === null ? `${filename} is no file of this host` : `${filename} is ${format}`)
      }
      return { format: known, path, ...(backing === undefined ? {} : { backing }) }
    }, undefined)
    if (pinned !== undefined) images[store] = pinned
  }
  if (Object.keys(images).length > 0) return images
  throw new RefpointError('tracker', `machine '${machine}' had no disk to back up when it last ran`, {
    hint: 'Name its images in the configuration: images: { vda: { path: …, format: qcow2 or raw } }.',
  })
}

/** A machine that has run on an overlay since wrote to that. Returns what was not looked at, for people. */
function refuseOverlays(machine: string, images: Images, recalled: RecalledMachine | undefined): string[] {
  const known = recalled?.disks.flatMap((disk) => disk.images.flatMap(({ path }) => path ?? [])) ?? []
  const { overlays, limited } = findOverlays(Object.values(images).map(({ path }) => path), known)
  const [overlay] = overlays
  if (overlay !== undefined) {
    const store = Object.entries(images).find(([, { path }]) => path === overlay.below)?.[0] ?? ''
    const why = `${overlay.path} lies over ${overlay.below} now, and the machine may have run on that`
    throw unreadable(machine, store, why)
  }
  if (!limited) return []
  return [
    'not all files around its images were looked at for overlays (external snapshots), since there are so many: if the ' +
      'machine has run on one since it was last backed up while it ran, this point lacks what it wrote',
  ]
}

/** By QEMU's names of drivers; a file or device without a format is what it is. */
const formats: ReadonlyMap<string, PinnedImage['format']> = new Map([
  ['qcow2', 'qcow2'],
  ['raw', 'raw'],
  ['file', 'raw'],
  ['host_device', 'raw'],
])

function unreadable(machine: string, store: string, why: string): RefpointError {
  return new RefpointError('tracker', `machine '${machine}' does not run, and its disk '${store}' can't be read: ${why}`, {
    hint: `Back it up while it runs, or name its images in the configuration: images: { ${store}: { path: …, format: … } }.`,
    fields: { machine, store },
  })
}
