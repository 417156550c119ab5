import { join } from 'node:path'
import type { ArchiveShelf } from '../chain-reader.js'
import type { PointManifest } from '../../model/manifest.js'
import { createNewFile, type NewFile, type NewFileOptions } from './new-file.js'
import type { OwnMachine, ReadOwnMachine, StorePlace } from './own-machine.js'

/** What came of the script that starts a restored machine. */
export type RestoredStart =
  { readonly kind: 'script'; readonly path: string } | { readonly kind: 'refused'; readonly reasons: readonly string[] }

export interface StartTarget {
  readonly told: RestoredStart
  readonly finish: () => Promise<void>
  readonly discard: () => Promise<void>
}

/** The machine's own files of a point, understood. */
export async function openOwnMachine(
  shelf: ArchiveShelf,
  point: PointManifest,
  readOwnMachine: ReadOwnMachine,
): Promise<OwnMachine | undefined> {
  const { reader } = await shelf.open(point)
  return await readOwnMachine(async (path) => {
    return reader.config.some((member) => member.path === path) ? await reader.readConfig(path) : undefined
  })
}

/** Writes `start.sh`, under a temporary name as everything else: 0700, for it has what the command line had. */
export async function prepareStart(
  machine: OwnMachine,
  point: PointManifest,
  { folder, stores, ...options }: NewFileOptions & { readonly folder: string; readonly stores: readonly StorePlace[] },
): Promise<StartTarget> {
  const script = machine.startScript(stores, point)
  if (script.kind === 'refused') return { told: script, finish: async () => {}, discard: async () => {} }
  const path = join(folder, 'start.sh')
  const file: NewFile = await createNewFile(path, options)
  try {
    await file.handle.writeFile(script.text)
    await file.handle.chmod(0o700)
  } catch (error) {
    await file.discard()
    throw error
  }
  return { told: { kind: 'script', path }, finish: file.publish, discard: file.discard }
}
