import { existsSync } from 'node:fs'
import { chown, lstat, mkdir, readdir, rm, rmdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { RefpointError } from '../../model/errors.js'
import { listNbdExports } from '../../nbd/client.js'
import { isRefusal, type Monitor } from './monitor.js'
import { lockProcess } from './process-lock.js'
import type { QemuIdentity } from './qemu-process.js'
import { exportsReply } from './replies.js'

/*
 * QEMU has one NBD server for all of its exports. That of refpoint listens on a socket whose place is known by QEMU's
 * process, so that a run finds the one that a killed run left, whoever's that was, and can use it.
 */
export function nbdSocketPath(qemu: Pick<QemuIdentity, 'pid'>): string {
  return join(baseFolder(), `qemu-${qemu.pid}`, 'nbd.sock')
}

/**
 * Has QEMU's NBD server listen there, unless it does.
 * @throws RefpointError `tracker` when another program uses QEMU's NBD server.
 */
export async function startNbdServer(monitor: Monitor, qemu: QemuIdentity): Promise<void> {
  const path = nbdSocketPath(qemu)
  await makeFolder(baseFolder(), 0o711)
  await makeFolder(join(path, '..'), 0o700, qemu)
  if (await answers(path)) return
  await rm(path, { force: true })
  try {
    await monitor.do('nbd-server-start', {
      addr: { type: 'unix', data: { path } },
      'max-connections': 0,
    })
  } catch (cause) {
    if (!isRefusal(cause)) throw cause
    const running = /already running/.test(cause.message)
    throw new RefpointError('tracker', cause.message, {
      hint: running
        ? "Another program uses QEMU's only NBD server (a migration, another backup). Run again when it is done."
        : `QEMU must be able to make the socket ${path}: run refpoint as root, or as the user that QEMU runs as.`,
      cause,
    })
  }
}

/** Stops the server when it is refpoint's and serves nobody any more. */
export async function stopNbdServer(monitor: Monitor, qemu: QemuIdentity): Promise<void> {
  const path = nbdSocketPath(qemu)
  if (!(await answers(path))) return
  if ((await monitor.ask(exportsReply, 'query-block-exports')).length > 0) return
  await monitor.do('nbd-server-stop')
  await rm(join(path, '..'), { recursive: true, force: true })
}

async function staleSockets(): Promise<string[]> {
  const names = await readdir(baseFolder()).catch((): string[] => [])
  return names
    .filter((name) => /^qemu-[1-9]\d*$/.test(name) && !existsSync(`/proc/${name.slice('qemu-'.length)}`))
    .map((name) => join(baseFolder(), name))
}

/**
 * Removes the folders of sockets that QEMU processes left which ended during a backup, whoever's that was. The number of a process may be given to a new QEMU at any moment, and a
 * run may begin on that: so each goes only under the lock that such a run has to take, while there is no such process,
 * and nobody listens.
 */
export async function removeStaleSockets(): Promise<string[]> {
  const removed: string[] = []
  for (const folder of await staleSockets()) {
    const name = basename(folder)
    const free = { what: folder, waitMs: 0, signal: new AbortController().signal }
    const lock = await lockProcess(name, free).catch(() => undefined)
    if (lock === undefined) continue
    try {
      if (existsSync(`/proc/${name.slice('qemu-'.length)}`) || (await answers(join(folder, 'nbd.sock')))) continue
      // Only what is put there; a folder with anything else in it is not ours.
      await rm(join(folder, 'nbd.sock'), { force: true })
      await rmdir(folder)
      removed.push(folder)
    } catch {
      // Somebody else's, or somebody else was faster.
    } finally {
      await lock.release()
    }
  }
  return removed
}

async function answers(path: string): Promise<boolean> {
  if ((await lstat(path).catch(() => undefined)) === undefined) return false
  return await listNbdExports({ path }, { handshakeTimeoutMs: 10_000 }).then(
    () => true,
    () => false,
  )
}

function baseFolder(): string {
  const uid = process.getuid?.() ?? 0
  if (uid === 0) return '/run/refpoint'
  const runtime = process.env['XDG_RUNTIME_DIR']
  return runtime === undefined || runtime === '' ? join(tmpdir(), `refpoint-${uid}`) : join(runtime, 'refpoint')
}

/** A folder that nobody else can have made, or put things into. */
async function makeFolder(path: string, mode: number, owner?: QemuIdentity): Promise<void> {
  await mkdir(path, { mode, recursive: true })
  const stats = await lstat(path)
  const uid = process.getuid?.() ?? 0
  const known = stats.uid === uid || stats.uid === owner?.uid
  if (!stats.isDirectory() || !known || (stats.mode & 0o022) !== 0) {
    throw new RefpointError('tracker', `${path} belongs to somebody else, or others may write to it`, {
      hint: 'Remove it: refpoint makes it anew.',
      fields: { path },
    })
  }
  if (uid === 0 && owner !== undefined && stats.uid !== owner.uid) await chown(path, owner.uid, owner.gid)
}
