import { open, readdir, readlink, stat } from 'node:fs/promises'
import { constants } from 'node:fs'
import { basename, isAbsolute, resolve } from 'node:path'
import * as z from 'zod'
import type { MachineFile } from '../../tracker.js'
import { MACHINE_FOLDER, type MachineProcess, type MachineTpm } from './document.js'
import { boundSockets, readArguments, socketInodes } from './process.js'
import { parseAnswer } from './qmp-commands.js'
import { readRegularFile } from './regular-file.js'
import { parseCommandLine } from './start/command-line.js'
import { parseOptionValue, valueOf } from './start/option-value.js'

const tpmList = z.array(
  z.looseObject({
    id: z.string(),
    options: z.looseObject({ type: z.string(), data: z.looseObject({ chardev: z.string().optional() }).optional() }),
  }),
)

/** The files of swtpm's state; its lock and whatever else is in the folder stays there. */
const stateFile = /^tpm2?-[0-9a-f]{2}\.(permall|volatilestate|savestate)$/
const limitBytes = 8 * 1024 ** 2

/** TPMs by QEMU's answer to `query-tpm`, with copies of the state that an swtpm of this machine keeps for it. */
export async function copyTpms(
  answer: unknown,
  process: MachineProcess | undefined,
): Promise<{ tpms: MachineTpm[]; files: MachineFile[] }> {
  const files: MachineFile[] = []
  const tpms: MachineTpm[] = []
  for (const { id, options } of parseAnswer(tpmList, 'query-tpm', answer)) {
    const told = { id, type: options.type, chardev: options.data?.chardev ?? null, commandLine: [], files: [] }
    if (options.type !== 'emulator') {
      tpms.push({ ...told, problem: null })
      continue
    }
    try {
      const { commandLine, copies } = await copyState(told.chardev, process)
      const folder = `${MACHINE_FOLDER}/tpm${tpms.length}`
      const copied = copies.map(({ name, content }) => ({ path: `${folder}/${name}`, content }))
      files.push(...copied)
      tpms.push({ ...told, commandLine, files: copied.map(({ path }) => path), problem: null })
    } catch (error) {
      tpms.push({ ...told, problem: (error as Error).message })
    }
  }
  return { tpms, files }
}

async function copyState(chardev: string | null, process: MachineProcess | undefined) {
  if (process === undefined) throw new Error("QEMU's process can't be seen")
  const option = parseCommandLine(process.commandLine.slice(1))
    .filter(({ name }) => name === 'chardev')
    .map(({ value }) => parseOptionValue(value ?? ''))
    .find((parts) => valueOf(parts, 'id') === chardev)
  const path = option === undefined ? undefined : valueOf(option, 'path')
  if (path === undefined) throw new Error(`the command line has no socket for '${chardev ?? ''}'`)
  const swtpm = await listener(path, process)
  const commandLine = await readArguments(swtpm.pid)
  const folder = stateFolder(commandLine, swtpm.workingDirectory)
  return { commandLine, copies: await readState(folder, [0, process.uid], swtpm.uid) }
}

/** The process that listens on swtpm's control socket. */
async function listener(path: string, qemu: MachineProcess) {
  const sockets = await boundSockets(qemu.pid)
  const absolute = resolve(qemu.workingDirectory, path)
  const named = sockets.filter(
    (socket) => socket.path === absolute || (!isAbsolute(path) && socket.path.endsWith(`/${path}`)),
  )
  const inodes = new Set(named.map(({ inode }) => inode))
  for (const entry of await readdir('/proc')) {
    const pid = Number(entry)
    if (!Number.isInteger(pid) || pid === qemu.pid) continue
    const held = await socketInodes(pid).catch(() => new Set<string>())
    if (![...inodes].some((inode) => held.has(inode))) continue
    const program = basename(await readlink(`/proc/${pid}/exe`))
    if (!program.startsWith('swtpm')) continue
    const { uid } = await stat(`/proc/${pid}`)
    return { pid, uid, workingDirectory: await readlink(`/proc/${pid}/cwd`) }
  }
  throw new Error(`no swtpm that listens on ${absolute} can be seen`)
}

function stateFolder(commandLine: readonly string[], workingDirectory: string): string {
  const at = commandLine.findLastIndex((argument) => /^--tpmstate(=|$)/.test(argument))
  const argument = commandLine[at] ?? ''
  const value = argument.includes('=') ? argument.slice(argument.indexOf('=') + 1) : (commandLine[at + 1] ?? '')
  const parts = parseOptionValue(at === -1 ? '' : value)
  const folder = valueOf(parts, 'dir') ?? /^dir:\/\/(.+)$/.exec(valueOf(parts, 'backend-uri') ?? '')?.[1]
  if (folder === undefined) throw new Error('its swtpm keeps its state in no folder that its command line names')
  return resolve(workingDirectory, folder)
}

/**
 * Reads the state, through the folder that was opened, whatever is put in its place meanwhile. Which folder it is, its
 * process says: so that nobody can have another's files read, that process must be root's, of QEMU's own user or of
 * the folder's owner, and each file must be of one of these, no link, and have no second name.
 */
async function readState(path: string, trusted: readonly number[], swtpmUid: number) {
  const folder = await open(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW)
  try {
    const { uid: owner } = await folder.stat()
    if (![...trusted, owner].includes(swtpmUid)) {
      throw new Error(`its swtpm runs as user ${swtpmUid}, who is neither root, QEMU's user nor the owner of ${path}`)
    }
    const through = `/proc/self/fd/${folder.fd}`
    const names = (await readdir(through)).filter((name) => stateFile.test(name)).toSorted()
    const copies: { name: string; content: Buffer }[] = []
    for (const name of names) {
      const { content, uid, links } = await readRegularFile(`${through}/${name}`, { limitBytes })
      if (links !== 1 || ![swtpmUid, owner].includes(uid)) throw new Error(`${path}/${name} is not swtpm's own file`)
      copies.push({ name, content })
    }
    if (copies.length === 0) throw new Error(`${path} has no state of an swtpm`)
    return copies
  } finally {
    await folder.close()
  }
}
