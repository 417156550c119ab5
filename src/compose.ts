/*
 * The composition root: the one place that knows which tracker, repository and codec stand behind the ports. New ones
 * are added to the lists here.
 */
import { availableParallelism } from 'node:os'
import { createRequire } from 'node:module'
import type { Config, Limits, MachineConfig } from './config/config.js'
import { loadCodec } from './compress/load-codec.js'
import { ByteBudget } from './operations/byte-budget.js'
import type { BackupMachine } from './operations/backup/backup.js'
import type { RunHooks } from './operations/backup/hooks.js'
import type { WriteEnvironment } from './operations/environment.js'
import { createPool } from './operations/pool.js'
import { openRepository } from './repository/open.js'
import type { PruneRepository } from './repository/repository.js'
import type { RunReporter } from './operations/runs/run-reporter.js'
import type { Doctor } from './trackers/doctor.js'
import type { Tracker } from './trackers/tracker.js'

const { version } = createRequire(import.meta.url)('../package.json') as { version: string }

/** Name and version, as in manifests. */
export const agent = `refpoint ${version}`
export { version, loadCodec }

export interface RepositoryConfig {
  readonly path: string
}

/** The repository of a configuration; nothing is touched yet. */
export async function buildRepository({ path }: RepositoryConfig, { create = false } = {}): Promise<PruneRepository> {
  const { localRepository } = await import('./repository/local/local-repository.js')
  return localRepository(path, { create })
}

/** How long a run waits for another repository's run on the same QEMU. */
const turnMs = 15 * 60_000

/** The tracker of a machine; nothing is touched yet. */
export async function buildTracker(machine: MachineConfig): Promise<Tracker> {
  switch (machine.tracker) {
    case 'disk':
      return (await import('./trackers/disk/disk-tracker.js')).createDiskTracker({ stores: machine.stores })
    case 'image':
      return (await import('./trackers/image/image-tracker.js')).createImageTracker({
        stores: machine.stores,
        allowTorn: machine.allowTorn,
      })
    case 'qemu': {
      const { images } = machine
      const live = (await import('./trackers/qemu/qemu-tracker.js')).createQemuTracker({ ...machine, waitMs: turnMs })
      return images === undefined ? live : (await import('./compose-offline.js')).withOffline(live, machine, images)
    }
    case 'qcow2':
      return await (await import('./compose-offline.js')).buildOfflineTracker(machine.stores)
  }
}

/** How long `doctor` waits for a run that has the machine. */
const doctorPatienceMs = 2000

/** Who looks at a machine. Dispose of it afterwards. */
export async function buildDoctor(machine: MachineConfig): Promise<Doctor> {
  const { tryCheckpoint } = await import('./operations/doctor/try-checkpoint.js')
  if (machine.tracker !== 'qemu') return tryCheckpoint(await buildTracker(machine))
  const { createQemuDoctor } = await import('./trackers/qemu/doctor/qemu-doctor.js')
  const live = createQemuDoctor({ ...machine, waitMs: doctorPatienceMs })
  if (machine.images === undefined) return live
  const { doctorOfEither } = await import('./trackers/combined/doctor-of-either.js')
  const { isOff } = await import('./compose-offline.js')
  return doctorOfEither({ live, isOff, offline: tryCheckpoint(await buildTracker(machine)) })
}

/** A machine of the configuration as the backup operation takes it. Dispose of its tracker afterwards. */
export async function buildMachine(machine: MachineConfig): Promise<BackupMachine> {
  return {
    name: machine.name,
    trackerName: machine.tracker,
    tracker: await buildTracker(machine),
    files: machine.files,
    level: machine.compressionLevel,
    concurrentStores: machine.concurrentStores,
    audit: machine.audit,
  }
}

/** Tells of runs as the configuration says; loaded where runs are told of. */
export async function buildRunReporter(
  repository: PruneRepository,
  settings: Omit<import('./compose-runs.js').ReporterSettings, 'version'>,
): Promise<RunReporter> {
  const runs = await import('./compose-runs.js')
  return runs.buildRunReporter(repository, { ...settings, version })
}

/** The repository, written to not faster than the limits say: for one that is not the environment's. */
export async function limitWrites(repository: PruneRepository, limits: Limits): Promise<PruneRepository> {
  if (limits.writeBytesPerSecond === undefined) return repository
  return (await import('./compose-limits.js')).limitWrites(repository, limits.writeBytesPerSecond)
}

/** Lets others on this host go first; returns what of it could not be done. Before `buildEnvironment`. */
export async function lowerPriority({ nice, ionice }: Limits): Promise<readonly string[]> {
  if (nice === undefined && ionice === undefined) return []
  return await (await import('./compose-limits.js')).lowerPriority({ nice, ionice })
}

/** Runs a machine's backup when host, repository and devices have a place for it. */
export async function withinLimits<Result>(
  what: { readonly limits: Limits; readonly machine: MachineConfig; readonly repository: string },
  waiting: { readonly signal: AbortSignal; readonly onWaiting: (key: string) => void },
  body: () => Promise<Result>,
): Promise<Result> {
  const { host, repository, device } = what.limits
  if (host === undefined && repository === undefined && device === undefined) return await body()
  return await (await import('./compose-limits.js')).withinLimits(what, waiting, body)
}

/** The hooks of a machine; loaded where it has any. */
export async function buildHooks(settings: import('./compose-hooks.js').HookSettings): Promise<RunHooks | undefined> {
  if (settings.hooks.before === undefined && settings.hooks.after === undefined) return undefined
  return (await import('./compose-hooks.js')).buildHooks(settings)
}

export interface EnvironmentSettings {
  readonly workers: Config['workers']
  readonly memoryBytes: number
  /** What refpoint may take of the host; undefined: all. */
  readonly limits?: Limits | undefined
  /** The command that runs, for whoever finds a machine locked. */
  readonly command: string
}

/**
 * What the operations work with. The pool must be disposed of.
 * @throws RefpointError `no-repository`
 */
export async function buildEnvironment(
  repository: PruneRepository,
  { workers, memoryBytes, command, limits }: EnvironmentSettings,
): Promise<WriteEnvironment> {
  const { id } = await openRepository(repository)
  const environment: WriteEnvironment = {
    repository,
    repositoryId: id,
    codec: await loadCodec(),
    pool: createPool({
      script: new URL('./worker.js', import.meta.url),
      workers: workers === 'auto' ? availableParallelism() : workers,
    }),
    budget: new ByteBudget(memoryBytes),
    readOwnMachine: async (read) => (await import('./trackers/qemu/machine/own-machine.js')).readOwnMachine(read),
    agent,
    command,
  }
  if (limits?.readBytesPerSecond === undefined && limits?.writeBytesPerSecond === undefined) return environment
  return (await import('./compose-limits.js')).throttled(environment, limits)
}
