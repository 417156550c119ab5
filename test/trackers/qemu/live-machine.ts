import { join } from 'node:path'
import { openNbdSource } from '../../../src/nbd/nbd-source.js'
import type { Source, SourceReader } from '../../../src/model/source.js'
import { createQemuTracker, type QemuTrackerOptions } from '../../../src/trackers/qemu/qemu-tracker.js'
import type { Tracker } from '../../../src/trackers/tracker.js'
import { blockdevDisk, makeImage } from '../../qemu/images.js'
import { type QemuOptions, QemuProcess } from '../../qemu/qemu-process.js'
import { temporaryFolder } from '../../temporary.js'

export interface DiskOfMachine {
  readonly name: string
  readonly format: 'qcow2' | 'raw'
  readonly sizeBytes: number
}

/** As `QemuProcess.start` has them. */
type RunOptions = Pick<QemuOptions, 'runs' | 'env'>

/** A machine of QEMU that can be ended and started again with the same disks; its processor stands still. */
export class LiveMachine {
  readonly folder: string
  readonly qmp: string
  readonly args: readonly string[]
  #qemu: QemuProcess
  readonly #options: RunOptions

  private constructor(folder: string, args: readonly string[], qemu: QemuProcess, options: RunOptions) {
    this.folder = folder
    this.args = args
    this.#qemu = qemu
    this.qmp = qemu.qmpPath
    this.#options = options
  }

  /** Starts one with virtio disks of its own. */
  static async withDisks(disks: readonly DiskOfMachine[]): Promise<LiveMachine> {
    const folder = temporaryFolder()
    const args: string[] = []
    for (const { name, format, sizeBytes } of disks) {
      const path = await makeImage(join(folder, `${name}.${format}`), format, sizeBytes)
      args.push(...blockdevDisk(name, path, format))
    }
    return await LiveMachine.start(folder, args)
  }

  static async start(folder: string, args: readonly string[], options: RunOptions = {}): Promise<LiveMachine> {
    return new LiveMachine(folder, args, await QemuProcess.start({ folder, args, ...options }), options)
  }

  get qemu(): QemuProcess {
    return this.#qemu
  }

  /** Starts it again, after it has ended. */
  async restart(args = this.args): Promise<void> {
    this.#qemu = await QemuProcess.start({ folder: this.folder, args, ...this.#options })
  }

  options(overrides: Partial<QemuTrackerOptions> = {}): QemuTrackerOptions {
    return {
      qmp: this.qmp,
      agent: undefined,
      exclude: [],
      fleecing: { folder: undefined, limitBytes: undefined },
      granularityBytes: undefined,
      waitMs: 60_000,
      ...overrides,
    }
  }

  tracker(overrides: Partial<QemuTrackerOptions> = {}): Tracker {
    return createQemuTracker(this.options(overrides))
  }
}

export async function openLiveSource(source: Source): Promise<SourceReader> {
  if (source.kind !== 'nbd') throw new Error(`a source of kind ${source.kind}`)
  return await openNbdSource(source)
}
