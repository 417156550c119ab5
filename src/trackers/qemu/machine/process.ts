import { readFile, readlink, readdir, stat } from 'node:fs/promises'
import { basename, isAbsolute, resolve } from 'node:path'
import * as z from 'zod'
import type { MachineProcess } from './document.js'
import type { QmpCommands } from './qmp-commands.js'
import { readRegularFile } from './regular-file.js'

const threads = z.array(z.looseObject({ 'thread-id': z.number().int().positive() }))
const argumentsLimit = 2 * 1024 ** 2

/**
 * The process behind a QMP socket: found by the host's threads of the guest's processors, and believed only if it is
 * that process which listens on this very socket. @throws Error saying why it can't be known.
 */
export async function findProcess(qmp: QmpCommands, socketPath: string): Promise<MachineProcess> {
  const pid = await processOf(qmp)
  if (!(await listensOn(pid, socketPath))) {
    throw new Error(`process ${pid} does not listen on ${socketPath} (QEMU in a container, or its socket was renamed)`)
  }
  const { uid, gid } = await stat(`/proc/${pid}`)
  const workingDirectory = await readlink(`/proc/${pid}/cwd`)
  const commandLine = await readArguments(pid)
  const found: MachineProcess = {
    pid,
    executable: await readlink(`/proc/${pid}/exe`),
    commandLine,
    workingDirectory,
    uid,
    gid,
    optionFiles: await readOptionFiles(commandLine, workingDirectory),
  }
  // The number was this machine's all the while: a process that ended in between answers no more.
  if ((await processOf(qmp)) !== pid) throw new Error(`process ${pid} is not the machine's any more`)
  return found
}

async function processOf(qmp: QmpCommands): Promise<number> {
  const [first] = threads.parse(await qmp.execute('query-cpus-fast'))
  if (first === undefined) throw new Error('QEMU names no processor')
  const status = await readFile(`/proc/${first['thread-id']}/status`, 'utf8')
  const pid = Number(/^Tgid:\s*(\d+)$/m.exec(status)?.[1])
  if (!Number.isSafeInteger(pid) || pid <= 0) throw new Error('its process is not in /proc')
  return pid
}

/** Arguments in order, the program's name first. Bytes that are no UTF-8 come as U+FFFD. */
export async function readArguments(pid: number): Promise<string[]> {
  const text = await readFile(`/proc/${pid}/cmdline`, 'utf8')
  if (text.length > argumentsLimit) throw new Error('its command line is larger than 2 MiB')
  const found = text.split('\0')
  if (found.at(-1) === '') found.pop()
  if (found.length === 0) throw new Error('its command line is empty')
  return found
}

/** Whether the process holds a unix socket that listens, or talks, at this path, as its own network namespace says. */
export async function listensOn(pid: number, socketPath: string): Promise<boolean> {
  const cwd = await readlink(`/proc/${pid}/cwd`)
  const inodes = await socketInodes(pid)
  const wanted = await stat(socketPath)
  for (const { inode, path } of await boundSockets(pid)) {
    if (!inodes.has(inode)) continue
    const found = await stat(isAbsolute(path) ? path : resolve(cwd, path)).catch(() => undefined)
    if (found !== undefined && found.ino === wanted.ino && found.dev === wanted.dev) return true
    // After -daemonize a relative path means nothing any more.
    if (found === undefined && !isAbsolute(path) && basename(path) === basename(socketPath)) return true
  }
  return false
}

/** Sockets with a path, of the network namespace that the process is in. */
export async function boundSockets(pid: number): Promise<{ readonly inode: string; readonly path: string }[]> {
  const table = await readFile(`/proc/${pid}/net/unix`, 'utf8')
  return table.split('\n').flatMap((line) => {
    const found = /^[0-9a-f]+: \S+ \S+ \S+ \S+ \S+ +(\d+) (.+)$/i.exec(line)
    const [, inode, path] = found ?? []
    return inode === undefined || path === undefined || path.startsWith('@') ? [] : [{ inode, path }]
  })
}

/** Inode numbers of a process's open sockets. */
export async function socketInodes(pid: number): Promise<ReadonlySet<string>> {
  const folder = `/proc/${pid}/fd`
  const inodes = new Set<string>()
  for (const fd of await readdir(folder)) {
    const inode = /^socket:\[(\d+)\]$/.exec(await readlink(`${folder}/${fd}`).catch(() => ''))?.[1]
    if (inode !== undefined) inodes.add(inode)
  }
  return inodes
}

/**
 * What files of `-readconfig` set up, by the kinds of their sections. Nothing else of them gets into the point: their
 * path is the machine's word, and may lead to anything.
 */
async function readOptionFiles(commandLine: readonly string[], folder: string): Promise<MachineProcess['optionFiles']> {
  const paths = commandLine.flatMap((argument, at) =>
    /^--?readconfig$/.test(argument) ? (commandLine[at + 1] ?? []) : [],
  )
  return await Promise.all(
    paths.map(async (path) => {
      const file = await readRegularFile(resolve(folder, path), { limitBytes: 1024 ** 2, follow: true }).catch(
        () => undefined,
      )
      if (file === undefined) return { path, sections: null }
      const text = file.content.toString('utf8')
      const sections = [...text.matchAll(/^\s*\[\s*([\w-]+)/gm)].flatMap((match) => match[1] ?? [])
      return { path, sections: [...new Set(sections)] }
    }),
  )
}
