import { mkdir, open, stat } from 'node:fs/promises'
import { dirname, join, resolve, sep } from 'node:path'
import { RefpointError } from '../../model/errors.js'
import type { PointManifest } from '../../model/manifest.js'
import type { ArchiveShelf } from '../chain-reader.js'

/**
 * Writes the machine's configuration files of a point below `folder`; returns their paths. Names come out of an
 * archive: none may lead out of the folder, whatever the archive's reader let through.
 */
export async function restoreConfig(
  shelf: ArchiveShelf,
  point: PointManifest,
  folder: string,
  force: boolean,
): Promise<readonly string[]> {
  const { reader } = await shelf.open(point)
  const written: string[] = []
  for (const member of reader.config) {
    const path = join(folder, member.path)
    if (!resolve(path).startsWith(resolve(folder) + sep)) {
      throw new RefpointError('damaged', `the archive of point #${point.point} names a file outside its folder: ${member.path}`)
    }
    if (!force && (await stat(path).catch(() => undefined)) !== undefined) {
      throw new RefpointError('usage', `${path} exists`, { hint: 'Restore into another folder, or say --force to replace it.' })
    }
    await mkdir(dirname(path), { recursive: true, mode: 0o700 })
    const file = await open(path, 'w', 0o600)
    try {
      await file.writeFile(await reader.readConfig(member.path))
      await file.sync()
    } finally {
      await file.close()
    }
    written.push(path)
  }
  return written
}
