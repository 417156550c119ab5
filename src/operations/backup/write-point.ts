import PQueue from 'p-queue'
import type { ArchiveHeader } from '../../archive/archive-header.js'
import { ArchiveWriter } from '../../archive/writer.js'
import { storeRecord } from '../../model/chain.js'
import type { Range } from '../../model/extent.js'
import type { Distrust, ObjectRecord, PointManifest, StoreRecord } from '../../model/manifest.js'
import type { MissedBlocks } from '../../model/missed-blocks.js'
import type { BackupPlan, StorePlan } from '../../model/planner.js'
import type { Trust } from '../../model/trust.js'
import { archiveName } from '../../repository/layout.js'
import type { CheckpointStore } from '../../trackers/tracker.js'
import { type ArchiveShelf, StoreChain } from '../chain-reader.js'
import type { WriteEnvironment } from '../environment.js'
import { storeArchive } from '../store-archive.js'
import type { MachineFile } from '../../trackers/tracker.js'
import type { AuditOutcome } from './audit-stores.js'
import type { BackupMachine, BackupOptions } from './backup.js'
import { configFiles } from './config-files.js'
import { countBytes } from './count-bytes.js'
import type { Asked } from './evidence.js'
import { streamStore } from './stream-store.js'

type PointPlan = Extract<BackupPlan, { kind: 'point' }>

export interface WritePointInput {
  readonly environment: WriteEnvironment
  readonly machine: BackupMachine
  readonly header: ArchiveHeader
  readonly asked: readonly Asked[]
  /** The machine's own files at the checkpoint. */
  readonly machineFiles: readonly MachineFile[]
  readonly plan: PointPlan
  readonly audit: AuditOutcome
  readonly trust: ReadonlyMap<string, Trust>
  readonly points: readonly PointManifest[]
  readonly shelf: ArchiveShelf
  readonly signal: AbortSignal
  readonly options: BackupOptions
  /** After the last read, before the archive is closed; throwing here drops the archive. */
  readonly onStreamed: () => Promise<void>
}

export interface WrittenPoint {
  readonly archive: ObjectRecord
  readonly stores: readonly StoreRecord[]
  readonly readBytes: number
  /** Stores that were compared because their tracker is not believed, and what it missed; often none. */
  readonly judged: readonly JudgedStore[]
}

/** A store whose tracker's answer was held against its whole content. */
export interface JudgedStore {
  readonly store: string
  /** 0: it named everything that had changed, and is believed again. */
  readonly missedBlocks: number
  /** Where, in bytes: the first 1,000 ranges. */
  readonly ranges: readonly Range[]
}

/** Streams all stores into one archive in the repository, side by side within the machine's concurrency; durable. */
export async function writePoint(input: WritePointInput): Promise<WrittenPoint> {
  const { environment, machine, header, signal } = input
  const writer = new ArchiveWriter({ header, codec: environment.codec, level: machine.level })
  const { archive, result } = await storeArchive({
    repository: environment.repository,
    name: archiveName(machine.name, header.nonce),
    writer,
    signal,
    fill: async (stop, fail) => {
      const files = configFiles(machine.files, input.machineFiles)
      for await (const { path, content } of files) await writer.addConfig(path, content)
      return await streamAll(input, writer, stop, fail)
    },
  })
  return { archive, stores: result.records, readBytes: result.readBytes, judged: result.judged }
}

async function streamAll(
  input: WritePointInput,
  writer: ArchiveWriter,
  signal: AbortSignal,
  fail: (error: unknown) => void,
) {
  const { options, machine, asked, plan } = input
  if (options.countFirst === true) {
    const bytes = await countBytes(asked, plan.stores, signal)
    options.onEvent?.({ type: 'total', machine: machine.name, bytes })
  }
  const queue = new PQueue({ concurrency: machine.concurrentStores })
  const outcomes = await Promise.allSettled(
    // Every store is waited for, also after an abort: nobody may read on when the checkpoint is gone.
    asked.map((entry) =>
      queue.add(async () => {
        signal.throwIfAborted()
        return await streamOne(input, entry, writer, signal).catch((error: unknown) => {
          fail(error)
          throw error
        })
      }),
    ),
  )
  const failure = outcomes.find((outcome) => outcome.status === 'rejected')
  if (failure !== undefined) throw failure.reason
  const streamed = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []))
  await input.onStreamed()
  return {
    records: streamed.map((store) => store.record),
    readBytes: streamed.reduce((sum, store) => sum + store.readBytes, 0),
    judged: streamed.flatMap((store) => store.judged ?? []),
  }
}

async function streamOne(
  input: WritePointInput,
  { store, sourceKey, changed }: Asked,
  writer: ArchiveWriter,
  signal: AbortSignal,
): Promise<{ record: StoreRecord; readBytes: number; judged: JudgedStore | undefined }> {
  const { environment, machine, plan, points, options, shelf } = input
  const planned = plan.stores.find((entry) => entry.name === store.name)
  if (planned === undefined) throw new RangeError(`store '${store.name}' is not in the plan`)
  const bySlot = new Map(points.map((point) => [point.point, point]))
  const parent = plan.parent === null || planned.mode === 'full' ? undefined : bySlot.get(plan.parent)
  const streamed = await streamStore({
    store,
    plan: planned,
    before: parent === undefined ? undefined : storeRecord(parent, store.name),
    openParent: async () => {
      if (parent === undefined) throw new RangeError(`store '${store.name}' has no parent to open`)
      return await StoreChain.open(shelf, parent, store.name, bySlot)
    },
    changed: planned.mode === 'tracked' ? await changed?.() : undefined,
    claimed: planned.mode === 'compared' ? await changed?.() : undefined,
    writer: writer.store(store.name),
    pool: environment.pool,
    budget: environment.budget,
    level: machine.level,
    sourceKey,
    signal,
    onRead: (bytes) => options.onEvent?.({ type: 'read', machine: machine.name, store: store.name, bytes }),
  })
  return {
    record: {
      name: store.name,
      kind: 'disk',
      sizeBytes: store.sizeBytes,
      mode: modeOf(planned, streamed.equalBlocks),
      reason: planned.reason,
      changeId: store.changeId ?? null,
      ...streamed.totals,
      contentSum: streamed.contentSum,
      auditedTo: input.audit.auditedTo.get(store.name) ?? 0,
      distrust: distrustAfter(input, store, streamed.missed),
    },
    readBytes: streamed.readBytes,
    judged: streamed.missed && {
      store: store.name,
      missedBlocks: streamed.missed.count,
      ranges: streamed.missed.ranges(store.sizeBytes),
    },
  }
}

/** What the next run is to think of the store's tracker. */
function distrustAfter(
  { header, audit, trust }: WritePointInput,
  { name, sizeBytes }: CheckpointStore,
  missed: MissedBlocks | undefined,
): Distrust | null {
  if (missed === undefined) return trust.get(name)?.distrust ?? null
  if (missed.count > 0) return { since: header.point, what: missed.describe(sizeBytes) }
  // The audit saw a difference that was not there a moment later: whoever is to blame, it proves no trust.
  const what = audit.caught.get(name)
  return what === undefined ? null : { since: header.point, what }
}

/** A tracked store of whose answer something was dropped as unchanged is told as refined. */
function modeOf(planned: StorePlan, equalBlocks: number): StoreRecord['mode'] {
  return planned.mode === 'tracked' && equalBlocks > 0 ? 'refined' : planned.mode
}
