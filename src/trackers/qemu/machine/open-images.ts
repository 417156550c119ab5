import { readdir, readFile, readlink, realpath, stat } from 'node:fs/promises'
import { isAbsolute, normalize, resolve } from 'node:path'

/** A file that a process has open: what `/proc/<pid>/fd/<n>` leads to, whatever its name leads to by now. */
export interface OpenFile {
  readonly descriptor: string
  readonly path: string
  readonly writable: boolean
}

/** Regular files and devices that a process has open. Rejects where this user may not see them. */
export async function openFilesOf(pid: number): Promise<OpenFile[]> {
  const folder = `/proc/${pid}/fd`
  const found: OpenFile[] = []
  for (const fd of await readdir(folder)) {
    const path = await readlink(`${folder}/${fd}`).catch(() => '')
    if (!path.startsWith('/') || path.startsWith('/dev/null')) continue
    const info = await readFile(`/proc/${pid}/fdinfo/${fd}`, 'utf8').catch(() => '')
    // The two lowest bits of the open flags, in octal: 0 is reading only.
    const writable = !/^flags:\s*\d*[04]$/m.test(info)
    found.push({ descriptor: `${folder}/${fd}`, path, writable })
  }
  return found
}

/** The absolute path, without links, of a file that QEMU names; null for what is no file of this host. */
export async function imagePath(
  filename: string,
  workingDirectory: string,
  open: readonly OpenFile[],
): Promise<string | null> {
  const name = filename.startsWith('json:') ? fileOf(filename.slice(5)) : filename.replace(/^file:/, '')
  if (name === undefined || name === '') return null
  if (!isAbsolute(name) && /^[^/]*:/.test(name)) return null
  const path = await realpath(resolve(workingDirectory, name)).catch(() => null)
  if (path !== null || isAbsolute(name)) return path
  // A relative name means nothing after -daemonize: then what is open tells, if it is the only one of that name.
  const candidates = new Set(open.map((file) => file.path).filter((known) => known.endsWith(`/${normalize(name)}`)))
  const [only] = candidates
  return candidates.size === 1 && only !== undefined ? only : null
}

/** The descriptor by which a process writes to the file at `path`. */
export async function writtenFile(path: string, open: readonly OpenFile[]): Promise<OpenFile | undefined> {
  const wanted = await stat(path)
  for (const file of open) {
    if (!file.writable) continue
    const found = await stat(file.descriptor).catch(() => undefined)
    if (found?.dev === wanted.dev && found.ino === wanted.ino) return file
  }
  return undefined
}

/** Where the options that QEMU tells in place of a name lead to in the end. */
function fileOf(json: string): string | undefined {
  let node: unknown
  try {
    node = JSON.parse(json)
  } catch {
    return undefined
  }
  for (let depth = 0; typeof node === 'object' && node !== null && depth < 32; depth += 1) {
    if ('filename' in node && typeof node.filename === 'string') {
      const driver = 'driver' in node ? node.driver : 'file'
      return driver === 'file' || driver === 'host_device' ? node.filename : undefined
    }
    node = 'file' in node ? node.file : undefined
  }
  return undefined
}
