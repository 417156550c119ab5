import { type ChildProcess, spawn } from 'node:child_process'
import { createWriteStream } from 'node:fs'
import { rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { onTestFinished } from 'vitest'
import { connectQmp, type QmpClient } from '../../src/qmp/client.js'
import { nbdSocketPath } from '../../src/trackers/qemu/nbd-socket.js'

export interface QemuOptions {
  /** For sockets and logs; the test's own. */
  readonly folder: string
  /** Of this machine within the folder. */
  readonly name?: string
  /** Disks and devices; what every test machine has is added. */
  readonly args: readonly string[]
  /** Whether its processor runs; a machine that stands still serves its disks all the same, and costs nothing. */
  readonly runs?: boolean
  /** Besides that of the tests. */
  readonly env?: Readonly<Record<string, string>>
}

/** A real QEMU under TCG, killed when the test ends. */
export class QemuProcess {
  readonly pid: number
  /** For the agent under test. */
  readonly qmpPath: string
  /** For the test's own view of the machine. */
  readonly monitor: QmpClient
  /** What the guest sends to its first serial port. */
  readonly serialPath: string
  readonly #child: ChildProcess
  readonly #folder: string
  readonly #ended: Promise<void>
  #writes = 0

  private constructor(child: ChildProcess, folder: string, qmpPath: string, serialPath: string, monitor: QmpClient) {
    this.pid = child.pid ?? 0
    this.qmpPath = qmpPath
    this.serialPath = serialPath
    this.monitor = monitor
    this.#child = child
    this.#folder = folder
    this.#ended = endOf(child)
  }

  /** Resolves when it answers. */
  static async start({ folder, name = 'machine', args, runs = false, env = {} }: QemuOptions): Promise<QemuProcess> {
    const [qmp, monitor] = [join(folder, `${name}.qmp`), join(folder, `${name}.monitor`)]
    const serial = join(folder, `${name}.serial`)
    const child = spawn(
      'qemu-system-x86_64',
      [
        ...['-name', name, '-nodefaults', '-no-user-config', '-accel', 'tcg', '-M', 'pc', '-m', '16', '-display', 'none'],
        ...['-qmp', `unix:${qmp},server=on,wait=off`, '-qmp', `unix:${monitor},server=on,wait=off`],
        ...['-serial', `file:${serial}`],
        ...(runs ? [] : ['-S']),
        ...args,
      ],
      { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } },
    )
    onTestFinished(async () => {
      child.kill('SIGKILL')
      await endOf(child)
      // Of a backup that was going on; a run on the next QEMU would remove it, but there is none.
      if (child.pid !== undefined) await rm(dirname(nbdSocketPath({ pid: child.pid })), { recursive: true, force: true })
    })
    let said = ''
    child.stderr.on('data', (bytes: Buffer) => (said += bytes.toString()))
    child.stdout.pipe(createWriteStream(join(folder, `${name}.stdout`)))
    const client = await connected(monitor, child, () => said)
    onTestFinished(() => client.close())
    return new QemuProcess(child, folder, qmp, serial, client)
  }

  /** Runs a command of the human monitor; returns what it printed. */
  async hmp(line: string): Promise<string> {
    const printed = await this.monitor.execute('human-monitor-command', { 'command-line': line })
    return String(printed)
  }

  /**
   * Writes to a disk as its guest does: through the device and whatever filters are on it.
   * @param device its ID or its path in QEMU's object tree
   */
  async write(device: string, bytes: Uint8Array, offset: number): Promise<void> {
    const path = join(this.#folder, `write-${this.pid}-${(this.#writes += 1)}`)
    await writeFile(path, bytes)
    await this.io(device, `write -s ${path} ${offset} ${bytes.length}`)
  }

  /** Has the guest's disk written with zeroes; the image may free the space. */
  async zero(device: string, offset: number, length: number): Promise<void> {
    await this.io(device, `write -z -u ${offset} ${length}`)
  }

  /** Runs a qemu-io command on a guest's disk. */
  async io(device: string, command: string): Promise<void> {
    const printed = await this.hmp(`qemu-io -d ${device} "${command}"`)
    if (printed.trim() !== '') throw new Error(`qemu-io ${command}: ${printed}`)
  }

  /** Ends it as a crash does. */
  kill(): Promise<void> {
    return this.end('SIGKILL')
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    this.#child.kill(signal)
    await this.#ended
  }

  /** Its monitor's `quit`, which closes the images well. */
  async quit(): Promise<void> {
    await this.monitor.execute('quit')
    await this.#ended
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal)
  }

  get ended(): Promise<void> {
    return this.#ended
  }
}

function endOf(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve()
  return new Promise((resolve) => child.once('exit', () => resolve()))
}

/** A socket's file is there before anybody listens on it: asks until it is answered. */
async function connected(path: string, child: ChildProcess, said: () => string): Promise<QmpClient> {
  for (let tries = 0; ; tries += 1) {
    try {
      return await connectQmp(path)
    } catch (error) {
      if (child.exitCode !== null || child.signalCode !== null || tries > 2000) {
        throw new Error(`QEMU did not start: ${said()}`, { cause: error })
      }
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
  }
}
