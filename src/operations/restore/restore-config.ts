import { mkdir, open, rename, rm, stat } from 'node:fs/promises'
import { dirname, join, resolve, sep } from 'node:path'
import { RefpointError } from '../../model/errors.js'
import type { PointManifest } from '../../model/manifest.js'
import type { ArchiveShelf } from '../chain-reader.js'

/** Configuration files of a point, written beside their places and not there yet. */
export interface RestoredConfig {
  /** Where they will be. */
  readonly paths: readonly string[]
  /** Gives them their names. */
  finish(): Promise<void>
  /** Removes what has no name yet; safe after `finish`. */
  discard(): Promise<void>
}

export interface ConfigTarget {
  readonly folder: string
  readonly force: boolean
  /** Tells this run's files from another's. */
  readonly attempt: string
}

/**
 * Writes the machine's configuration files of a point below `folder`, under temporary names. Names come out of an
 * archive: none may lead out of the folder, whatever the archive's reader let through.
 */
export async function restoreConfig(
  shelf: ArchiveShelf,
  point: PointManifest,
  { folder, force, attempt }: ConfigTarget,
): Promise<RestoredConfig> {
  const { reader } = await shelf.open(point)
  const files = reader.config.map((member) => ({ member: member.path, path: join(folder, member.path) }))
  const temporary = (path: string): string => `${path}.partial-${attempt}`
  const discard = async (): Promise<void> => {
    for (const { path } of files) await rm(temporary(path), { force: true })
  }
  await checkPlaces(point, folder, files, force)
  try {
    for (const { member, path } of files) {
      const content = await reader.readConfig(member)
      await mkdir(dirname(path), { recursive: true, mode: 0o700 })
      const file = await open(temporary(path), 'wx', 0o600)
      try {
        await file.writeFile(content)
        await file.sync()
      } finally {
        await file.close()
      }
    }
  } catch (error) {
    await discard()
    throw error
  }
  return {
    paths: files.map(({ path }) => path),
    discard,
    async finish() {
      for (const { path } of files) await rename(temporary(path), path)
    },
  }
}

/** Before anything is written, so that nothing is half done when one of many is in the way. */
async function checkPlaces(
  point: PointManifest,
  folder: string,
  files: readonly { readonly member: string; readonly path: string }[],
  force: boolean,
): Promise<void> {
  for (const { member, path } of files) {
    if (!resolve(path).startsWith(resolve(folder) + sep)) {
      throw new RefpointError(
        'damaged',
        `the archive of point #${point.point} names a file outside its folder: ${member}`,
      )
    }
    if (!force && (await stat(path).catch(() => undefined)) !== undefined) {
      throw new RefpointError('usage', `${path} exists; nothing was restored`, {
        hint: 'Restore into another folder, or say --force to replace it.',
        fields: { path },
      })
    }
  }
}
