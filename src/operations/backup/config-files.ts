import { readFile } from 'node:fs/promises'
import { RefpointError } from '../../model/errors.js'
import { MACHINE_FILES_LIMIT, type MachineFile } from '../../trackers/tracker.js'

/**
 * What goes below `config/` in an archive: the files that the configuration lists, read now, one at a time, and the
 * machine's own, as they were at the checkpoint. Neither may take the other's place.
 * @throws RefpointError `config` when a listed file can't be read, or stands in the way of another; `tracker` when the
 * machine's own are more than is allowed.
 */
export function configFiles(
  listed: Readonly<Record<string, string>>,
  own: readonly MachineFile[],
): AsyncIterable<MachineFile> {
  const bytes = own.reduce((sum, { content }) => sum + content.length, 0)
  if (own.length > MACHINE_FILES_LIMIT.count || bytes > MACHINE_FILES_LIMIT.bytes) {
    throw new RefpointError('tracker', `the machine's own files are too many: ${own.length} of ${bytes} bytes`, {
      fields: { count: own.length, bytes, limit: MACHINE_FILES_LIMIT },
    })
  }
  const paths = [...own.map(({ path }) => path), ...Object.keys(listed)]
  for (const path of Object.keys(listed)) {
    // A file can't be where another one's folder is, either.
    const other = paths.findIndex((taken, index) => index !== paths.lastIndexOf(path) && inTheWay(taken, path))
    if (other === -1) continue
    throw new RefpointError('config', `two of the machine's files can't both be restored: ${paths[other]} and ${path}`, {
      hint: `Give '${path}' another name under 'files' in the configuration.`,
      fields: { paths: [paths[other], path] },
    })
  }
  return contents(listed, own)
}

function inTheWay(path: string, other: string): boolean {
  return path === other || path.startsWith(`${other}/`) || other.startsWith(`${path}/`)
}

async function* contents(
  listed: Readonly<Record<string, string>>,
  own: readonly MachineFile[],
): AsyncGenerator<MachineFile> {
  for (const [path, file] of Object.entries(listed)) yield { path, content: await readListed(file) }
  yield* own
}

async function readListed(file: string): Promise<Uint8Array> {
  try {
    return await readFile(file)
  } catch (error) {
    throw new RefpointError('config', `can't read the machine's file ${file}: ${(error as Error).message}`, {
      hint: "It is listed under 'files' in the configuration; correct the path or take it out.",
      cause: error,
    })
  }
}
