import { statSync } from 'node:fs'
import { RefpointError } from '../../model/errors.js'
import { connectQmp } from '../../qmp/client.js'
import { type Monitor, monitorOf } from './monitor.js'
import { lockProcess, type ProcessLock } from './process-lock.js'
import { identifyQemu, type QemuIdentity } from './qemu-process.js'

/** QEMU's oldest version that has what a checkpoint needs: snapshot-access, and copies whose failure breaks only them. */
const oldest = { major: 7, minor: 2 }

/** One running QEMU, of which no other run on this host has hold. */
export interface Session extends AsyncDisposable {
  readonly monitor: Monitor
  readonly qemu: QemuIdentity
  /** Connects anew when the connection was lost. @throws as the first time, when QEMU is gone. */
  reconnected(): Promise<Monitor>
}

export interface SessionOptions {
  /** The unix socket of QEMU's monitor. */
  readonly qmp: string
  /** How long to wait for another run, in milliseconds. */
  readonly waitMs: number
  readonly signal: AbortSignal
}

/**
 * Takes hold of a running QEMU: by its monitor's socket, on which it serves one program at a time, and by its process,
 * which may have several such sockets.
 * @throws RefpointError `locked` when another run has it, `tracker` when it does not answer or is too old.
 */
export async function openSession({ qmp, waitMs, signal }: SessionOptions): Promise<Session> {
  const what = `the machine at ${qmp}`
  const locks: ProcessLock[] = []
  let monitor: Monitor | undefined
  try {
    locks.push(await lockProcess(`qmp-${socketIdentity(qmp)}`, { what, waitMs, signal }))
    monitor = monitorOf(await connectQmp(qmp, { signal }))
    assertVersion(monitor)
    const qemu = await identifyQemu(monitor)
    locks.push(await lockProcess(`qemu-${qemu.pid}`, { what, waitMs, signal }))
    return new OpenSession(qmp, monitor, qemu, locks)
  } catch (error) {
    monitor?.client.close()
    for (const lock of locks) await lock.release()
    throw error
  }
}

class OpenSession implements Session {
  monitor: Monitor
  readonly qemu: QemuIdentity
  readonly #qmp: string
  readonly #locks: readonly ProcessLock[]

  constructor(qmp: string, monitor: Monitor, qemu: QemuIdentity, locks: readonly ProcessLock[]) {
    this.#qmp = qmp
    this.monitor = monitor
    this.qemu = qemu
    this.#locks = locks
  }

  async reconnected(): Promise<Monitor> {
    if (!this.monitor.client.lost) return this.monitor
    const again = monitorOf(await connectQmp(this.#qmp))
    this.monitor = again
    const { pid } = await identifyQemu(again)
    if (pid === this.qemu.pid) return again
    throw new RefpointError('tracker', `the machine at ${this.#qmp} was started anew`)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.monitor.client.close()
    for (const lock of this.#locks) await lock.release()
  }
}

function socketIdentity(path: string): string {
  try {
    const { dev, ino } = statSync(path, { bigint: true })
    return `${dev}-${ino}`
  } catch (cause) {
    throw new RefpointError('tracker', `there is no QMP socket at ${path}`, {
      hint: 'Is the machine running? Start it with -qmp unix:PATH,server=on,wait=off.',
      cause,
      fields: { qmp: path },
    })
  }
}

function assertVersion({ client: { version } }: Monitor): void {
  const { major, minor, micro } = version
  if (major > oldest.major || (major === oldest.major && minor >= oldest.minor)) return
  throw new RefpointError('tracker', `QEMU ${major}.${minor}.${micro} is too old to be backed up while it runs`, {
    hint: `It takes QEMU ${oldest.major}.${oldest.minor} or newer: in older ones a full disk could stop the guest.`,
    fields: { version },
  })
}
