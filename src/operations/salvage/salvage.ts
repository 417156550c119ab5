import { randomUUID } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { storeRecord } from '../../model/chain.js'
import { RefpointError } from '../../model/errors.js'
import type { PointManifest } from '../../model/manifest.js'
import { ArchiveShelf } from '../chain-reader.js'
import type { ReadEnvironment } from '../environment.js'
import { createNewFile, type NewFile } from '../restore/new-file.js'
import { restoreConfig, type RestoredConfig } from '../restore/restore-config.js'
import { prepareFile, type RestoreTarget } from '../restore/target.js'
import { SalvageChain } from './salvage-chain.js'
import { type SalvagedStore, salvageStore } from './salvage-store.js'

export interface SalvageRequest {
  readonly point: PointManifest
  readonly points: readonly PointManifest[]
  /** Names of the stores; all when undefined. */
  readonly stores: readonly string[] | undefined
  readonly folder: string
  readonly force: boolean
  /** Whether content of older points stands where a lost archive may have held newer. */
  readonly withOlder: boolean
}

export interface SalvageOptions {
  readonly signal: AbortSignal
  readonly onTotal?: (bytes: number) => void
  readonly onBytes?: (bytes: number) => void
}

export interface SalvageReport {
  readonly machine: string
  readonly point: number
  readonly time: string
  readonly stores: readonly SalvagedStore[]
  /** The machine's configuration files; or why they could not be restored. */
  readonly config: { readonly files: readonly string[] } | { readonly lost: string }
  /** Whether everything is proven to be what it was. */
  readonly whole: boolean
  /** The file in which all of this stands. */
  readonly list: string
}

/**
 * Restores what can be restored of a point whose chain is damaged, to `<folder>/<store>.salvaged.raw`, and lists exactly
 * what could not be in `<folder>/salvage.json`. Everything that is not listed is proven by its digest, or by the sum
 * over the whole store. The files get their names together, the list first: no disk is ever there without it.
 * @throws RefpointError `usage` when something would be overwritten without force. Damage is reported, not thrown.
 */
export async function salvagePoint(
  environment: ReadEnvironment,
  request: SalvageRequest,
  options: SalvageOptions,
): Promise<SalvageReport> {
  const { point, folder, force, withOlder } = request
  const names = chooseStores(request)
  const naming = { force, attempt: randomUUID().slice(0, 8) }
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const targets = new Map<string, RestoreTarget>()
  let list: NewFile | undefined
  let config: RestoredConfig | undefined
  await using shelf = new ArchiveShelf(environment.repository, environment.codec)
  try {
    const path = join(folder, 'salvage.json')
    list = await createNewFile(path, naming)
    for (const name of names) {
      const sizeBytes = storeRecord(point, name)?.sizeBytes ?? 0
      targets.set(name, await prepareFile(join(folder, `${name}.salvaged.raw`), sizeBytes, naming))
    }
    const configOrLoss = await tryConfig(shelf, point, { folder: join(folder, 'config'), ...naming })
    if ('files' in configOrLoss) config = configOrLoss.restored
    options.onTotal?.(names.reduce((sum, name) => sum + (storeRecord(point, name)?.sizeBytes ?? 0), 0))
    const bySlot = new Map(request.points.map((entry) => [entry.point, entry]))
    const stores: SalvagedStore[] = []
    for (const [name, target] of targets) {
      const chain = await SalvageChain.open(shelf, point, name, bySlot)
      const { signal } = options
      const onBytes = (bytes: number): void => options.onBytes?.(bytes)
      stores.push(await salvageStore(environment, point, name, chain, target, { withOlder, signal, onBytes }))
    }
    const report: SalvageReport = {
      machine: point.machine,
      point: point.point,
      time: point.time,
      stores,
      config: 'files' in configOrLoss ? { files: configOrLoss.files } : configOrLoss,
      whole: 'files' in configOrLoss && stores.every(({ suspects, lost }) => suspects.length + lost.length === 0),
      list: path,
    }
    await list.handle.writeFile(`${JSON.stringify(report, null, 2)}\n`)
    await list.publish()
    await config?.finish()
    for (const target of targets.values()) await target.finish()
    return report
  } catch (error) {
    for (const target of targets.values()) await target.discard()
    await config?.discard()
    await list?.discard()
    throw error
  }
}

function chooseStores({ point, stores }: SalvageRequest): readonly string[] {
  const known = point.stores.map((store) => store.name)
  const unknown = stores?.find((name) => !known.includes(name))
  if (unknown === undefined) return stores ?? known
  throw new RefpointError('usage', `point #${point.point} of machine '${point.machine}' has no store '${unknown}'`, {
    hint: `It has: ${known.join(', ')}.`,
  })
}

/** They stand in the point's own archive, which may be the damaged one. */
async function tryConfig(
  shelf: ArchiveShelf,
  point: PointManifest,
  target: Parameters<typeof restoreConfig>[2],
): Promise<{ readonly files: readonly string[]; readonly restored: RestoredConfig } | { readonly lost: string }> {
  try {
    const restored = await restoreConfig(shelf, point, target)
    return { files: restored.paths, restored }
  } catch (error) {
    if (error instanceof RefpointError && error.code === 'damaged') return { lost: error.message }
    throw error
  }
}
