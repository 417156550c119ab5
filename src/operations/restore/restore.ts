import { randomUUID } from 'node:crypto'
import { mkdir, rm } from 'node:fs/promises'
import { basename, join } from 'node:path'
import PQueue from 'p-queue'
import { storeRecord } from '../../model/chain.js'
import { RefpointError } from '../../model/errors.js'
import type { PointManifest } from '../../model/manifest.js'
import { ArchiveShelf, StoreChain } from '../chain-reader.js'
import { composeStore } from '../compose/compose-store.js'
import type { ReadEnvironment } from '../environment.js'
import { restoreConfig, type RestoredConfig } from './restore-config.js'
import { openOwnMachine, prepareStart, type RestoredStart, type StartTarget } from './restore-start.js'
import { prepareQcow2 } from './qcow2-target.js'
import { type DiskFormat, type RestoreTarget, prepareFile, prepareInPlace } from './target.js'

export interface RestoreRequest {
  readonly point: PointManifest
  readonly points: readonly PointManifest[]
  /** Names of the stores to restore; all when undefined. */
  readonly stores: readonly string[] | undefined
  readonly to: { readonly folder: string } | { readonly writeTo: string }
  /**
   * Of new files; undefined for the format that each had, where the point knows it and it is one of these, else raw.
   * What is written in place is always raw.
   */
  readonly format: DiskFormat | undefined
  readonly force: boolean
  readonly concurrentStores: number
}

export interface RestoreOptions {
  readonly signal: AbortSignal
  readonly onTotal?: (bytes: number) => void
  readonly onBytes?: (bytes: number) => void
}

export interface RestoredStore {
  readonly store: string
  readonly path: string
  readonly format: DiskFormat
  readonly sizeBytes: number
  /** Bytes whose digest the archive does not know: they were restored and could not be checked. */
  readonly uncheckedBytes: number
}

export interface RestoredPoint {
  readonly stores: readonly RestoredStore[]
  readonly configFiles: readonly string[]
  /** Null where the point does not know how its machine is started, or not all of it was restored. */
  readonly start: RestoredStart | null
}

/**
 * Restores stores of a point, each to its own sparse file `<folder>/<store>.<format>` or one onto an existing device or
 * file; a whole machine that knows how it is started gets a `start.sh` beside them. Files appear under their names only
 * when they are whole, checked and durable.
 * @throws RefpointError `damaged` when a digest or a content sum does not hold; `usage` when something would be
 * overwritten without force.
 */
export async function restorePoint(
  environment: ReadEnvironment,
  request: RestoreRequest,
  options: RestoreOptions,
): Promise<RestoredPoint> {
  const { point, to, force } = request
  const names = chooseStores(request)
  const attempt = randomUUID().slice(0, 8)
  if ('folder' in to) await mkdir(to.folder, { recursive: true, mode: 0o700 })
  const targets = new Map<string, RestoreTarget>()
  let config: RestoredConfig | undefined
  let start: StartTarget | undefined
  const failed = new AbortController()
  const signal = AbortSignal.any([options.signal, failed.signal])
  await using shelf = new ArchiveShelf(environment.repository, environment.codec)
  try {
    // A chain that can't be opened must not cost what is on the target now.
    const bySlot = new Map(request.points.map((entry) => [entry.point, entry]))
    const chains = new Map<string, StoreChain>()
    for (const name of names) chains.set(name, await StoreChain.open(shelf, point, name, bySlot))
    const machine = 'folder' in to ? await openOwnMachine(shelf, point, environment.readOwnMachine) : undefined
    for (const name of names) {
      const sizeBytes = storeRecord(point, name)?.sizeBytes ?? 0
      const format = request.format ?? formatOf(machine?.format(name))
      const target =
        'folder' in to
          ? await prepare[format](join(to.folder, `${name}.${format}`), sizeBytes, { force, attempt })
          : await prepareInPlace(to.writeTo, sizeBytes, { force })
      targets.set(name, target)
    }
    // Small, and as likely to be refused as a store: told before hours of work, not after.
    if ('folder' in to) {
      if (machine !== undefined && names.length === point.stores.length) {
        const stores = [...targets].map(([store, { finalPath, format }]) => ({
          store,
          file: basename(finalPath),
          format,
        }))
        start = await prepareStart(machine, point, { folder: to.folder, stores, force, attempt })
      }
      config = await restoreConfig(shelf, point, { folder: join(to.folder, 'config'), force, attempt })
    }
    options.onTotal?.(names.reduce((sum, name) => sum + (storeRecord(point, name)?.sizeBytes ?? 0), 0))
    const queue = new PQueue({ concurrency: request.concurrentStores })
    const outcomes = await Promise.allSettled(
      names.map(async (name) => {
        const chain = chains.get(name)
        const target = targets.get(name)
        if (chain === undefined || target === undefined) throw new RangeError(`store '${name}' was not prepared`)
        try {
          return await queue.add(() => restoreStore(environment, point, name, chain, target, { ...options, signal }))
        } catch (error) {
          failed.abort(error)
          throw error
        }
      }),
    )
    const failure = outcomes.find((outcome) => outcome.status === 'rejected')
    if (failure !== undefined) throw failed.signal.aborted ? failed.signal.reason : failure.reason
    for (const target of targets.values()) await target.finish()
    await config?.finish()
    // Last: what it starts is there.
    await start?.finish()
    return {
      stores: outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : [])),
      configFiles: config?.paths ?? [],
      start: start?.told ?? null,
    }
  } catch (error) {
    for (const target of targets.values()) await target.discard()
    await config?.discard()
    await start?.discard()
    throw error
  } finally {
    for (const target of targets.values()) if (target.temporary !== null) await rm(target.temporary, { force: true })
  }
}

const prepare = { raw: prepareFile, qcow2: prepareQcow2 } as const

function formatOf(known: string | undefined): DiskFormat {
  return known === 'qcow2' ? 'qcow2' : 'raw'
}

function chooseStores({ point, stores, to, format }: RestoreRequest): readonly string[] {
  const known = point.stores.map((store) => store.name)
  const names = stores ?? known
  const unknown = names.find((name) => !known.includes(name))
  if (unknown !== undefined) {
    throw new RefpointError('usage', `point #${point.point} of machine '${point.machine}' has no store '${unknown}'`, {
      hint: `It has: ${known.join(', ')}.`,
    })
  }
  if ('writeTo' in to && names.length !== 1) {
    throw new RefpointError('usage', `--write-to takes one store, and point #${point.point} has ${names.length}`, {
      hint: `Name one with --store: ${known.join(', ')}.`,
    })
  }
  if ('writeTo' in to && format === 'qcow2') {
    throw new RefpointError('usage', '--write-to writes the bytes of the disk as they are, no qcow2 image', {
      hint: 'For a new qcow2 image, say --to <dir>.',
    })
  }
  return names
}

async function restoreStore(
  environment: ReadEnvironment,
  point: PointManifest,
  name: string,
  chain: StoreChain,
  target: RestoreTarget,
  options: RestoreOptions,
): Promise<RestoredStore> {
  const composed = await composeStore(environment, chain, name, {
    target,
    touchedOnly: false,
    signal: options.signal,
    onBytes: (bytes) => {
      target.written(bytes)
      options.onBytes?.(bytes)
    },
  })
  const first = composed.damage[0]
  const record = storeRecord(point, name)
  if (first !== undefined) {
    const where = first.point === null ? '' : ` (archive of point #${first.point})`
    throw damaged(
      point,
      name,
      `bytes ${first.offset} to ${first.offset + first.length}${where}: ${first.what}`,
      composed.damage.length,
    )
  }
  if (record?.contentSum != null && composed.contentSum !== record.contentSum) {
    throw damaged(point, name, `its content sum is ${String(composed.contentSum)} instead of ${record.contentSum}`, 1)
  }
  return {
    store: name,
    path: target.finalPath,
    format: target.format,
    sizeBytes: chain.sizeBytes,
    uncheckedBytes: composed.unknownBlocks * 65_536,
  }
}

function damaged(point: PointManifest, store: string, what: string, count: number): RefpointError {
  const more = count > 1 ? `, and ${count - 1} more places` : ''
  return new RefpointError(
    'damaged',
    `store '${store}' of point #${point.point} of machine '${point.machine}' is damaged: ${what}${more}`,
    {
      hint: `Nothing was left that looks whole. 'refpoint verify ${point.machine}' names everything that is damaged and the points that are not; 'refpoint salvage' restores what is left of this one.`,
      fields: { machine: point.machine, point: point.point, store },
    },
  )
}
