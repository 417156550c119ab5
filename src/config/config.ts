import type { KeepRules } from '../model/retention.js'

/** The configuration with every default filled in, every path absolute and every unit resolved. */
export interface Config {
  /** The file it was read from, absolute. */
  readonly file: string
  readonly repository: { readonly path: string }
  /** Others, that points are copied to, by name. */
  readonly otherRepositories: Readonly<Record<string, { readonly path: string }>>
  readonly machines: readonly MachineConfig[]
  /** How many machines are backed up side by side. */
  readonly concurrentMachines: number
  /** Worker threads of all machines together; `auto` means one for each core. */
  readonly workers: number | 'auto'
  /** Content in flight over all machines together. */
  readonly memoryBytes: number
  readonly notifiers: readonly Notifier[]
  /** Where metrics are written to for Prometheus, absolute; undefined: nowhere. */
  readonly metricsFile: string | undefined
  /** The zone of the schedules; undefined: the host's. */
  readonly zone: string | undefined
  readonly verify: {
    readonly schedule: string | undefined
    readonly budgetMs: number | undefined
    /** Everything is to be proven within this time. */
    readonly withinMs: number | undefined
  }
  readonly prune: { readonly schedule: string | undefined }
  readonly limits: Limits
}

/** What refpoint may take of the host; undefined: no limit. */
export interface Limits {
  /** Machines backed up at once on this host, by all commands together. */
  readonly host: number | undefined
  /** The same, into one repository, and from one device. */
  readonly repository: number | undefined
  readonly device: number | undefined
  readonly readBytesPerSecond: number | undefined
  readonly writeBytesPerSecond: number | undefined
  readonly nice: number | undefined
  readonly ionice: 'idle' | 'best-effort' | undefined
}

/** Programs that run before and after a backup. */
export interface Hooks {
  readonly before: readonly string[] | undefined
  readonly after: readonly string[] | undefined
  readonly timeoutMs: number
}

/** A program that is told of runs. */
export interface Notifier {
  readonly on: readonly ('failure' | 'warning' | 'recovery')[]
  readonly command: readonly string[]
  readonly timeoutMs: number
}

export type MachineConfig = DiskMachineConfig | ImageMachineConfig | QemuMachineConfig | Qcow2MachineConfig

interface MachineSettings {
  readonly name: string
  readonly concurrentStores: number
  readonly compressionLevel: number
  /** The budget for re-reading "unchanged" blocks; either being 0 turns it off. */
  readonly audit: { readonly bytes: number; readonly milliseconds: number }
  /** Which points 'prune' keeps; undefined where no rules were given: then it keeps all. */
  readonly keep: KeepConfig | undefined
  /** After how long a backup reads and stores everything anew; undefined for never. */
  readonly fullEveryMs: number | undefined
  /** The machine's own configuration files: name in the archive to absolute path. */
  readonly files: Readonly<Record<string, string>>
  /** When it is backed up, with the machine's own offset; undefined: nobody said. */
  readonly schedule: string | undefined
  readonly hooks: Hooks
}

/** How many points each rule keeps, and the zone whose days and weeks are meant: the system's where none is named. */
export interface KeepConfig {
  readonly rules: KeepRules
  readonly zone: string | undefined
}

export interface DiskMachineConfig extends MachineSettings {
  readonly tracker: 'disk'
  /** Store name to the folder that `refpoint disk create` made. */
  readonly stores: Readonly<Record<string, string>>
}

export interface ImageMachineConfig extends MachineSettings {
  readonly tracker: 'image'
  readonly stores: Readonly<Record<string, { readonly path: string; readonly format?: 'raw' }>>
  /** Whether a live image may be read though what is read is no instant. */
  readonly allowTorn: boolean
}

export interface QemuMachineConfig extends MachineSettings {
  readonly tracker: 'qemu'
  /** The unix socket of QEMU's monitor. */
  readonly qmp: string
  /** The unix socket of the agent inside the guest; undefined: the guest is not asked to hold still. */
  readonly agent: string | undefined
  /** Names of disks that are not backed up. */
  readonly exclude: readonly string[]
  /** Where old data goes that the guest overwrites during a backup, and how much of it at most. */
  readonly fleecing: { readonly folder: string | undefined; readonly limitBytes: number | undefined }
  /** What one bit of a dirty bitmap stands for; undefined: by the disk's size. */
  readonly granularityBytes: number | undefined
  /**
   * Where its disks are when it does not run: as the newest point knows, by disk, or undefined: it is backed up only
   * while it runs.
   */
  readonly images: 'auto' | Readonly<Record<string, DiskImageConfig>> | undefined
}

export interface Qcow2MachineConfig extends MachineSettings {
  readonly tracker: 'qcow2'
  readonly stores: Readonly<Record<string, DiskImageConfig>>
}

/** An image of a machine's disk, for which the configuration vouches. */
export interface DiskImageConfig {
  readonly path: string
  readonly format: 'qcow2' | 'raw'
  /** What backs it; left out where nothing does. */
  readonly backing?: DiskImageConfig
}
