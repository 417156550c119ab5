import type { PointManifest } from '../../model/manifest.js'
import { archivesFolder, machineFolder } from '../../repository/layout.js'
import type { PruneRepository } from '../../repository/repository.js'

/**
 * Removes what killed runs of this machine left: half-written files, and archives whose slot was never claimed. Only
 * under the machine's lease, and only when every manifest could be read: an archive that an unreadable one names must
 * stay.
 */
export async function removeOrphans(
  repository: PruneRepository,
  machine: string,
  points: readonly PointManifest[],
): Promise<void> {
  await repository.sweep(machineFolder(machine))
  const named = new Set(points.map((point) => point.archive.name))
  const orphans: string[] = []
  for await (const object of repository.list(archivesFolder(machine))) {
    if (!named.has(object.name)) orphans.push(object.name)
  }
  for (const name of orphans) await repository.remove(name)
}
