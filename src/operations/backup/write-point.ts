import PQueue from 'p-queue'
import type { ArchiveHeader } from '../../archive/archive-header.js'
import { ArchiveWriter } from '../../archive/writer.js'
import { storeRecord } from '../../model/chain.js'
import type { ObjectRecord, PointManifest, StoreRecord } from '../../model/manifest.js'
import type { BackupPlan, StorePlan } from '../../model/planner.js'
import { archiveName } from '../../repository/layout.js'
import { type ArchiveShelf, StoreChain } from '../chain-reader.js'
import type { WriteEnvironment } from '../environment.js'
import type { MachineFile } from '../../trackers/tracker.js'
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
  readonly auditedTo: ReadonlyMap<string, number>
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
}

/** Streams all stores into one archive in the repository, side by side within the machine's concurrency; durable. */
export async function writePoint(input: WritePointInput): Promise<WrittenPoint> {
  const { environment, machine, header, signal } = input
  const name = archiveName(machine.name, header.nonce)
  const failed = new AbortController()
  const stop = AbortSignal.any([signal, failed.signal])
  const writer = new ArchiveWriter({ header, codec: environment.codec, level: machine.level })
  const stored = environment.repository.put(name, writer.output, { signal: stop })
  // A failing target must stop the readers, and failing readers the target; the first cause is the one that is told.
  stored.catch((error: unknown) => {
    writer.abort(error)
    failed.abort(error)
  })
  let results: { records: StoreRecord[]; readBytes: number; sha256: string }
  try {
    const files = configFiles(machine.files, input.machineFiles)
    for await (const { path, content } of files) await writer.addConfig(path, content)
    results = await streamAll(input, writer, stop, (error) => failed.abort(error))
  } catch (error) {
    const cause = failed.signal.aborted ? failed.signal.reason : signal.aborted ? signal.reason : error
    writer.abort(cause)
    failed.abort(cause)
    // A failing target is first heard of as a writer whose output nobody takes any more: what failed, storing tells.
    // Where something else failed first, storing ends with just that.
    await stored
    throw cause
  }
  const { bytes } = await stored
  return { archive: { name, bytes, sha256: results.sha256 }, stores: results.records, readBytes: results.readBytes }
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
  const { sha256 } = await writer.finish()
  return {
    records: streamed.map((store) => store.record),
    readBytes: streamed.reduce((sum, store) => sum + store.readBytes, 0),
    sha256,
  }
}

async function streamOne(
  input: WritePointInput,
  { store, sourceKey, changed }: Asked,
  writer: ArchiveWriter,
  signal: AbortSignal,
): Promise<{ record: StoreRecord; readBytes: number }> {
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
      auditedTo: input.auditedTo.get(store.name) ?? 0,
    },
    readBytes: streamed.readBytes,
  }
}

/** A tracked store of whose answer something was dropped as unchanged is told as refined. */
function modeOf(planned: StorePlan, equalBlocks: number): StoreRecord['mode'] {
  return planned.mode === 'tracked' && equalBlocks > 0 ? 'refined' : planned.mode
}
