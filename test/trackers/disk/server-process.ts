import { type ChildProcess, spawn } from 'node:child_process'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'

/** A real disk server in a process of its own; killed when the test ends. */
export class ServerProcess {
  readonly socket: string
  readonly #child: ChildProcess
  readonly #ended: Promise<void>

  private constructor(socket: string, child: ChildProcess) {
    this.socket = socket
    this.#child = child
    this.#ended = new Promise((resolve) => child.once('exit', () => resolve()))
    onTestFinished(() => this.kill())
  }

  /** Resolves when it serves. */
  static async start(socket: string, folders: readonly string[]): Promise<ServerProcess> {
    const script = join(import.meta.dirname, 'serve-process.js')
    const child = spawn(process.execPath, [script, socket, ...folders], { stdio: ['ignore', 'pipe', 'pipe'] })
    const server = new ServerProcess(socket, child)
    let errors = ''
    child.stderr?.on('data', (data: Buffer) => (errors += data.toString()))
    await new Promise<void>((resolve, reject) => {
      child.stdout?.once('data', () => resolve())
      child.once('exit', () => reject(new Error(`the server did not start: ${errors}`)))
    })
    return server
  }

  /** kill -9, as a crash does. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL')
    await this.#ended
  }

  /** Asks it to end, and waits until it did. Resolves to its exit status. */
  async stop(): Promise<number | null> {
    this.#child.kill('SIGTERM')
    await this.#ended
    return this.#child.exitCode
  }
}
