/*
 * refpoint as a library. A program puts the parts together as the commands do:
 *
 *   const repository = await buildRepository({ path: '/srv/backup' })
 *   await using environment = await openEnvironment(repository, { command: 'my program' })
 *   await backupMachine(environment, machine, { request: 'auto', signal })
 *
 * Operations take ports (`Tracker`, `PruneRepository`, `Codec`) and construct none; `build…` makes those that come
 * with refpoint. Everything that fails throws a `RefpointError`, whose `code` says what kind of failure it is.
 */
import { availableParallelism } from 'node:os'
import { buildEnvironment } from './compose.js'
import type { WriteEnvironment } from './operations/environment.js'
import type { PruneRepository } from './repository/repository.js'

export { agent, buildMachine, buildRepository, buildTracker, version } from './compose.js'
export type { RepositoryConfig } from './compose.js'
export type { Config, DiskMachineConfig, ImageMachineConfig, MachineConfig } from './config/config.js'
export { loadConfig, parseConfig } from './config/load-config.js'
export { ChangeIdExpired, RefpointError } from './model/errors.js'
export type { ErrorCode, ErrorDetails, ExpiredReason } from './model/errors.js'
export type { Extent, Range } from './model/extent.js'
export type { ObjectLocation } from './model/location.js'
export type { AuditManifest, Distrust, ObjectRecord, PointManifest, StoreMode, StoreRecord } from './model/manifest.js'
export type { BackupRequest } from './model/planner.js'
export type { Consistency, ReferencePoint } from './model/reference-point.js'
export type { Source, SourceReader } from './model/source.js'

export { auditMachine } from './operations/audit/audit-machine.js'
export type { AuditFinding, AuditOptions, AuditReport } from './operations/audit/audit-machine.js'
export { backupMachine } from './operations/backup/backup.js'
export type { BackupMachine, BackupOptions, BackupReport } from './operations/backup/backup.js'
export type { BackupEvent, BackupStep } from './operations/backup/events.js'
export type { ReadEnvironment, WriteEnvironment } from './operations/environment.js'
export { choosePoint, listPoints } from './operations/points.js'
export type { MachineHistory, When } from './operations/points.js'
export { holdPoint, releasePoint } from './operations/prune/hold.js'
export type { PruneEvent, PruneStep } from './operations/prune/events.js'
export type { PointFate, PrunePlan } from './operations/prune/plan.js'
export { previewPrune, pruneMachine } from './operations/prune/prune.js'
export type { PruneOptions, PruneReport, PruneRequest } from './operations/prune/prune.js'
export { pinMachine, whilePinned } from './repository/pin.js'
export type { Pin, PinOptions } from './repository/pin.js'
export { restorePoint } from './operations/restore/restore.js'
export type { RestoredStore, RestoreOptions, RestoreRequest } from './operations/restore/restore.js'
export { copyMachine } from './operations/copy/copy-machine.js'
export type { CopyDamage, CopyEnvironment, CopyOptions, CopyReport, CopyRequest } from './operations/copy/copy-machine.js'
export { salvagePoint } from './operations/salvage/salvage.js'
export type { SalvageOptions, SalvageReport, SalvageRequest } from './operations/salvage/salvage.js'
export { verify } from './operations/verify/verify.js'
export type { Finding, VerifyOptions, VerifyReport, VerifyRequest } from './operations/verify/verify.js'

export { initRepository } from './repository/init.js'
export type { InitResult } from './repository/init.js'
export { memoryRepository } from './repository/memory/memory-repository.js'
export type {
  ByteStream,
  ObjectInfo,
  PruneRepository,
  ReadRepository,
  WriteRepository,
} from './repository/repository.js'

export type { Codec } from './compress/codec.js'
export type {
  Checkpoint,
  CheckpointOptions,
  CheckpointStore,
  Owner,
  StoreInfo,
  Tracker,
  TrackerCapabilities,
} from './trackers/tracker.js'
export { createDisk, importDisk } from './trackers/disk/create-disk.js'
export { serveDisks } from './trackers/disk/serve-disks.js'
export type { DiskServer, ServeDisksOptions } from './trackers/disk/serve-disks.js'

export type { Backend, MetaContext, StatusRun } from './nbd/backend.js'
export { connectNbd, listNbdExports } from './nbd/client.js'
export type { NbdAddress, NbdClient, NbdConnectOptions } from './nbd/client.js'
export { serveNbd } from './nbd/server.js'

export interface OpenEnvironmentOptions {
  /** What the program does, for whoever finds a machine locked by it. */
  readonly command: string
  /** Worker threads; default one for each core. */
  readonly workers?: number
  /** Content in flight, in bytes; default 64 MiB. */
  readonly memoryBytes?: number
}

/**
 * What the operations work with: the repository, worker threads and a limit for memory. Disposing ends the threads.
 * @throws RefpointError `no-repository`
 */
export async function openEnvironment(
  repository: PruneRepository,
  { command, workers = availableParallelism(), memoryBytes = 64 * 2 ** 20 }: OpenEnvironmentOptions,
): Promise<WriteEnvironment & AsyncDisposable> {
  const environment = await buildEnvironment(repository, { workers, memoryBytes, command })
  return { ...environment, [Symbol.asyncDispose]: () => environment.pool[Symbol.asyncDispose]() }
}
