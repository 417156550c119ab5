import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { RefpointError } from '../../model/errors.js'
import { connectQmp, type QmpClient } from '../../qmp/client.js'
import type { User } from './image-owner.js'

const program = 'qemu-storage-daemon'
/** As for machines that run. */
const oldest = { major: 7, minor: 2 }
const startTimeoutMs = 30_000
/** Closing saves the bitmaps of every image. */
const endTimeoutMs = 120_000
const saidLimit = 4096

/*
 * The daemon has images locked and open for writing: it must end when the agent does, however that ends, and it must
 * end well, for bitmaps that it did not save are lost. So a shell stands between the two. It waits for the end of its
 * standard input, which is the agent's to close, and closed for it by the kernel when it is killed; then it asks the
 * daemon to end, and removes the folder with its sockets. It lets go of standard error, so that the end of that tells
 * the agent of the daemon's end.
 */
const guard = `
folder=$1
shift
mkdir -m 700 -- "$folder" || exit
"$@" < /dev/null &
daemon=$!
trap '' HUP INT TERM
exec 1>&- 2>&-
read -r _
kill -TERM "$daemon"
wait "$daemon"
rm -rf -- "$folder"
`

/** A qemu-storage-daemon of this run's own, with its sockets in a private folder. */
export class StorageDaemon implements AsyncDisposable {
  /** Where it serves NBD. */
  readonly nbdPath: string
  readonly #qmp: QmpClient
  readonly #process: GuardedProcess

  private constructor(process: GuardedProcess, qmp: QmpClient) {
    this.#process = process
    this.#qmp = qmp
    this.nbdPath = join(process.folder, 'nbd')
  }

  /**
   * @param user who it runs as; undefined: who the agent runs as.
   * @throws RefpointError `tracker` when it can't be started, and the signal's reason.
   */
  static async start(user: User | undefined, signal: AbortSignal): Promise<StorageDaemon> {
    const folder = join(tmpdir(), `refpoint-${randomBytes(8).toString('hex')}`)
    const path = join(folder, 'qmp')
    const monitor = `socket,id=qmp,path=${path.replaceAll(',', ',,')},server=on,wait=off`
    const command = [program, '--chardev', monitor, '--monitor', 'chardev=qmp']
    const process = new GuardedProcess(folder, command, user)
    try {
      const qmp = await connected(path, process, signal)
      assertVersion(qmp)
      return new StorageDaemon(process, qmp)
    } catch (error) {
      await process.end()
      throw error
    }
  }

  get lost(): boolean {
    return this.#qmp.lost
  }

  execute(command: string, args: object = {}): Promise<unknown> {
    return this.#qmp.execute(command, args)
  }

  async serveNbd(): Promise<void> {
    await this.execute('nbd-server-start', { addr: { type: 'unix', data: { path: this.nbdPath } } })
  }

  /** Ends an export, whoever is connected to it. */
  async removeExport(id: string): Promise<void> {
    const gone = this.#qmp.waitForEvent(({ event, data }) => event === 'BLOCK_EXPORT_DELETED' && data['id'] === id)
    await this.execute('block-export-del', { id, mode: 'hard' })
    await gone
  }

  /**
   * Closes all images, which saves their bitmaps. Safe to call twice.
   * @throws RefpointError `tracker` when it had to be killed.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#qmp.close()
    await this.#process.end()
  }
}

class GuardedProcess {
  readonly folder: string
  readonly #child: ChildProcess
  readonly #gone: Promise<void>
  /** What it said on standard error. */
  #said = ''
  /** The daemon itself ended. */
  #ended = false

  constructor(folder: string, command: readonly string[], user: User | undefined) {
    this.folder = folder
    // A process group of its own: a Ctrl-C is for the agent, which ends the daemon when it has cleaned up.
    this.#child = spawn('/bin/sh', ['-c', guard, 'refpoint-guard', folder, ...command], {
      stdio: ['pipe', 'ignore', 'pipe'],
      detached: true,
      cwd: '/',
      ...user,
    })
    this.#child.stderr?.on('data', (bytes: Buffer) => {
      if (this.#said.length < saidLimit) this.#said += bytes.toString()
    })
    this.#child.stderr?.once('close', () => (this.#ended = true))
    // It may be gone when its input is closed.
    this.#child.stdin?.on('error', () => {})
    this.#gone = new Promise((resolve) => {
      this.#child.once('error', (error) => {
        this.#said += error.message
        this.#ended = true
        resolve()
      })
      this.#child.once('exit', () => resolve())
    })
  }

  get ended(): boolean {
    return this.#ended
  }

  get said(): string {
    return this.#said.trim()
  }

  async end(): Promise<void> {
    this.#child.stdin?.end()
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<'late'>((resolve) => (timer = setTimeout(() => resolve('late'), endTimeoutMs)))
    const killed = (await Promise.race([this.#gone, late])) === 'late'
    clearTimeout(timer)
    if (!killed) return
    this.#killGroup()
    await rm(this.folder, { recursive: true, force: true })
    throw new RefpointError('tracker', `${program} did not end within ${endTimeoutMs / 1000} s, and was killed`, {
      hint: 'The storage of the images seems to hang. Disks may have to be compared next time.',
    })
  }

  #killGroup(): void {
    const { pid } = this.#child
    if (pid === undefined) return
    try {
      process.kill(-pid, 'SIGKILL')
    } catch {
      // It ended by itself just now.
    }
  }
}

/** Its socket appears, and is listened on, when it is ready. */
async function connected(path: string, process: GuardedProcess, signal: AbortSignal): Promise<QmpClient> {
  const deadline = performance.now() + startTimeoutMs
  for (;;) {
    signal.throwIfAborted()
    try {
      return await connectQmp(path)
    } catch (cause) {
      if (!process.ended && performance.now() < deadline) {
        await new Promise((resolve) => setTimeout(resolve, 5))
        continue
      }
      const missing = process.said.includes('not found')
      throw new RefpointError('tracker', `${program} did not start: ${process.said || 'it does not answer'}`, {
        ...(missing && { hint: 'Install it: Debian has it in qemu-system-common, others in a package of its name.' }),
        cause,
      })
    }
  }
}

function assertVersion({ version }: QmpClient): void {
  const { major, minor, micro } = version
  if (major > oldest.major || (major === oldest.major && minor >= oldest.minor)) return
  throw new RefpointError('tracker', `${program} ${major}.${minor}.${micro} is too old`, {
    hint: `It takes ${oldest.major}.${oldest.minor} or newer.`,
    fields: { version },
  })
}
