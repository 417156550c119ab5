import { realpath } from 'node:fs/promises'
import type { Files } from '../../files/files.js'
import { RefpointError } from '../../model/errors.js'
import type { Consistency } from '../../model/reference-point.js'
import type { LayersSource } from '../../model/source.js'
import { dataPath, mapPath } from './disk-file.js'
import type { Disk, Pin } from './disk.js'
import {
  abandonTop,
  assertNewName,
  endGeneration,
  findCheckpoint,
  nameInstant,
  type NextTop,
  prepareTop,
  switchTop,
} from './freeze.js'
import { openDisk, type OpenDisk } from './open-disk.js'
import { resizeDisk } from './resize.js'
import { rollBack } from './rollback.js'

/** One disk of a checkpoint: small and serialisable. */
export interface FrozenDisk {
  readonly folder: string
  readonly changeId: string
  readonly source: LayersSource
}

export interface DiskCheckpoint {
  readonly time: Date
  readonly consistency: Consistency
  readonly disks: readonly FrozenDisk[]
  /** The layers may change and go again. Safe to call twice. */
  release(): void
}

export interface DiskSetOptions {
  readonly files?: Files
  /** `server`: guests write meanwhile, and merging goes on in the background. `alone`: nobody writes. */
  readonly role: 'server' | 'alone'
  /** How many clients use a disk now; rolling back and resizing wait for none. */
  readonly clients?: (folder: string) => number
}

/** The disks that one process has open: checkpoints are one instant over all of them. */
export class DiskSet implements AsyncDisposable {
  readonly #disks: ReadonlyMap<string, OpenDisk>
  readonly #role: DiskSetOptions['role']
  readonly #clients: (folder: string) => number

  private constructor(disks: ReadonlyMap<string, OpenDisk>, options: DiskSetOptions) {
    this.#disks = disks
    this.#role = options.role
    this.#clients = options.clients ?? (() => 0)
  }

  /** @throws RefpointError `locked`, `tracker`, `damaged`; then none is open. */
  static async open(folders: readonly string[], options: DiskSetOptions): Promise<DiskSet> {
    const disks = new Map<string, OpenDisk>()
    const set = new DiskSet(disks, options)
    try {
      for (const folder of folders) {
        const place = await resolveFolder(folder)
        if (disks.has(place)) throw new RefpointError('usage', `${folder} is named twice`)
        const files = options.files === undefined ? {} : { files: options.files }
        disks.set(place, await openDisk(place, { background: options.role === 'server', ...files }))
      }
      return set
    } catch (error) {
      await set[Symbol.asyncDispose]()
      throw error
    }
  }

  /** Real paths of the folders, in the order in which they were given. */
  get folders(): readonly string[] {
    return [...this.#disks.keys()]
  }

  disk(folder: string): Disk {
    return this.#open(folder).disk
  }

  /** Why merging in the background stopped, if it failed. */
  drainFailure(folder: string): unknown {
    return this.#open(folder).drain.failure
  }

  #open(folder: string): OpenDisk {
    const open = this.#disks.get(folder)
    if (open === undefined) throw new RefpointError('tracker', `${folder} is not open here`)
    return open
  }

  /** A temporary checkpoint of these disks: their layers stay as they are until it is released. */
  async checkpoint(folders: readonly string[]): Promise<DiskCheckpoint> {
    return this.#freeze(folders, undefined)
  }

  /** A checkpoint that the user keeps under a name, to roll back to or to merge. */
  async checkpointAs(
    name: string,
    folders: readonly string[],
  ): Promise<{ readonly time: Date; readonly changeIds: readonly string[] }> {
    const frozen = await this.#freeze(folders, name)
    frozen.release()
    return { time: frozen.time, changeIds: frozen.disks.map(({ changeId }) => changeId) }
  }

  async #freeze(folders: readonly string[], name: string | undefined): Promise<DiskCheckpoint> {
    const open = folders.map((folder) => this.#open(folder))
    const disks = open.map(({ disk }) => disk)
    await Promise.all(open.map(({ drain }) => drain.pause()))
    let instant: Instant
    try {
      const withOverlay = this.#role === 'server' || name !== undefined
      instant = await withStructure(disks, () => (withOverlay ? coverAll(disks, name) : endAll(disks)))
    } finally {
      for (const { drain } of open) drain.resume()
    }
    const release = (): void => {
      for (const { disk, pin } of instant.frozen) disk.pins.delete(pin)
      for (const { drain } of open) drain.start()
    }
    try {
      const changeIds = await Promise.all(
        instant.frozen.map(({ disk, pin, generation }) => nameInstant(disk, pin.layers, generation)),
      )
      const consistency = this.#role === 'server' ? 'crash' : 'offline'
      const described = instant.frozen.map(({ disk, source }, index) => ({
        folder: disk.folder,
        changeId: changeIds[index] ?? '',
        source,
      }))
      return { time: instant.time, consistency, disks: described, release }
    } catch (error) {
      release()
      throw error
    }
  }

  /** @throws RefpointError `usage` for an unknown name, `locked` while clients or a backup use the disk. */
  async rollback(folder: string, name: string): Promise<void> {
    const { disk, drain } = this.#open(folder)
    findCheckpoint(disk, name)
    await drain.pause()
    try {
      await disk.structure.run(async () => {
        this.#assertUnused(disk, 'rolled back')
        await rollBack(disk, name)
      })
    } finally {
      drain.resume()
    }
  }

  /**
   * Drops the name and folds the overlay above it into its parent. `pending` when a backup still reads the parent:
   * it is done after that.
   */
  async merge(folder: string, name: string): Promise<{ readonly pending: boolean }> {
    const { disk, drain } = this.#open(folder)
    await drain.pause()
    try {
      await disk.structure.run(async () => {
        const index = findCheckpoint(disk, name)
        const layers = disk.file.layers.map((layer, at) => (at === index ? { id: layer.id } : layer))
        await disk.persist({ ...disk.file, layers })
        disk.stack.layers.forEach((layer, at) => (layer.record = layers[at] ?? layer.record))
      })
    } finally {
      drain.resume()
    }
    await drain.run()
    return { pending: disk.pins.size > 0 }
  }

  /** @throws RefpointError `usage` for a bad size, `tracker` while checkpoints exist, `locked` while in use. */
  async resize(folder: string, sizeBytes: number): Promise<void> {
    const { disk, drain } = this.#open(folder)
    this.#assertUnused(disk, 'resized')
    await drain.run()
    await drain.pause()
    try {
      await disk.structure.run(async () => {
        this.#assertUnused(disk, 'resized')
        await resizeDisk(disk, sizeBytes)
      })
    } finally {
      drain.resume()
    }
  }

  #assertUnused(disk: Disk, what: string): void {
    const clients = this.#clients(disk.folder)
    if (clients > 0) {
      const message = `${disk.folder} cannot be ${what} while ${clients} client(s) are connected to it`
      throw new RefpointError('locked', message, {
        hint: 'Shut the machine down, or disconnect its disks, and try again.',
        fields: { folder: disk.folder, clients },
      })
    }
    if (disk.pins.size === 0) return
    throw new RefpointError('locked', `${disk.folder} cannot be ${what} while a backup reads it`, {
      hint: 'Try again when the backup has ended.',
      fields: { folder: disk.folder },
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const results = await Promise.allSettled([...this.#disks.values()].map((open) => open[Symbol.asyncDispose]()))
    const failed = results.find((result) => result.status === 'rejected')
    if (failed !== undefined) throw failed.reason
  }
}

export async function resolveFolder(folder: string): Promise<string> {
  try {
    return await realpath(folder)
  } catch (error) {
    throw new RefpointError('tracker', `the tracked disk ${folder} can't be opened: ${(error as Error).message}`, { cause: error })
  }
}

interface Instant {
  readonly time: Date
  readonly frozen: readonly { disk: Disk; pin: Pin; generation: number; source: LayersSource }[]
}

function withStructure<T>(disks: readonly Disk[], task: () => Promise<T>): Promise<T> {
  // In one order everywhere, so that two checkpoints never wait for each other.
  const sorted = disks.toSorted((a, b) => (a.folder < b.folder ? -1 : 1))
  return sorted.reduceRight<() => Promise<T>>((inner, disk) => () => disk.structure.run(inner), task)()
}

/** Puts a fresh overlay on each disk, all at one instant. */
async function coverAll(disks: readonly Disk[], name: string | undefined): Promise<Instant> {
  if (name !== undefined) for (const disk of disks) assertNewName(disk, name)
  const time = new Date()
  const tops: { disk: Disk; top: NextTop }[] = []
  try {
    for (const disk of disks) tops.push({ disk, top: await prepareTop(disk, { name, time }) })
  } catch (error) {
    for (const { disk, top } of tops) await abandonTop(disk, top).catch(() => undefined)
    throw error
  }
  await Promise.all(disks.map((disk) => disk.writes.close()))
  const frozen = tops.map(({ disk, top }) => {
    const instant = pinned(disk)
    switchTop(disk, top)
    return instant
  })
  for (const disk of disks) disk.writes.open()
  return { time, frozen }
}

async function endAll(disks: readonly Disk[]): Promise<Instant> {
  const time = new Date()
  const frozen: Instant['frozen'][number][] = []
  for (const disk of disks) {
    const instant = pinned(disk)
    try {
      await endGeneration(disk)
    } catch (error) {
      for (const { disk: other, pin } of [...frozen, instant]) other.pins.delete(pin)
      throw error
    }
    frozen.push(instant)
  }
  return { time, frozen }
}

/** Pins all layers as they are now. */
function pinned(disk: Disk): Instant['frozen'][number] {
  const { layers } = disk.stack
  const pin: Pin = { layers }
  disk.pins.add(pin)
  const source: LayersSource = {
    kind: 'layers',
    sizeBytes: disk.sizeBytes,
    blockBytes: disk.blockBytes,
    layers: layers.map(({ id }) => ({ data: dataPath(disk.folder, id), map: mapPath(disk.folder, id) })),
  }
  return { disk, pin, generation: disk.generation, source }
}
