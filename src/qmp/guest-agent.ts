import { randomInt } from 'node:crypto'
import { RefpointError } from '../model/errors.js'
import { LineSocket } from './line-socket.js'
import { type Waiting, waiting } from './waiting.js'

export interface GuestAgentOptions {
  /** How long the guest may take to answer that it is there. */
  readonly syncTimeoutMs?: number
  readonly signal?: AbortSignal
}

/**
 * One connection to the agent inside a guest (qemu-ga), through the unix socket of its channel. It runs one command at
 * a time. Every call resolves, or rejects with RefpointError `tracker`, or with the signal's reason.
 */
export interface GuestAgent {
  execute(command: string, options: { readonly timeoutMs: number }): Promise<unknown>
  close(): void
}

const defaultSyncTimeoutMs = 5_000

/**
 * Connects, and makes sure that the agent answers this client and no earlier one: what is left in the channel of other
 * conversations is thrown away.
 */
export async function connectGuestAgent(path: string, options: GuestAgentOptions = {}): Promise<GuestAgent> {
  const { syncTimeoutMs = defaultSyncTimeoutMs, signal } = options
  signal?.throwIfAborted()
  const session = new Session(path)
  try {
    await session.sync(syncTimeoutMs, signal)
    return session
  } catch (error) {
    session.close()
    throw error
  }
}

class Session implements GuestAgent {
  readonly #path: string
  readonly #socket: LineSocket
  #waiting: { readonly what: string; readonly answer: Waiting<unknown>; readonly wanted: (value: unknown) => boolean } | undefined
  #failure: RefpointError | undefined

  constructor(path: string) {
    this.#path = path
    this.#socket = new LineSocket(path, {
      line: (text) => this.#line(text),
      lost: (cause) => {
        this.#failure = this.#error(cause === undefined ? 'it hung up' : cause.message)
        this.#waiting?.answer.reject(this.#failure)
      },
    })
  }

  async sync(timeoutMs: number, signal: AbortSignal | undefined): Promise<void> {
    const id = randomInt(2 ** 31)
    // The byte 0xff ends whatever half command an earlier client left in the agent's parser.
    this.#socket.sendBytes(Buffer.of(0xff))
    await this.#ask({
      command: 'guest-sync',
      args: { id },
      timeoutMs,
      signal,
      wanted: (value) => value === id,
    })
  }

  execute(command: string, { timeoutMs }: { readonly timeoutMs: number }): Promise<unknown> {
    return this.#ask({ command, args: {}, timeoutMs, signal: undefined, wanted: () => true })
  }

  close(): void {
    this.#socket.close()
  }

  #ask(asked: {
    readonly command: string
    readonly args: object
    readonly timeoutMs: number
    readonly signal: AbortSignal | undefined
    readonly wanted: (value: unknown) => boolean
  }): Promise<unknown> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    const { command, args, timeoutMs, signal, wanted } = asked
    const answer = waiting<unknown>({
      timeoutMs,
      signal,
      settled: () => (this.#waiting = undefined),
      timedOut: () => this.#error(`${command} was not answered within ${timeoutMs} ms`),
    })
    this.#waiting = { what: command, answer, wanted }
    this.#socket.send(`${JSON.stringify({ execute: command, arguments: args })}\n`)
    return answer.promise
  }

  #line(text: string): void {
    const asked = this.#waiting
    if (asked === undefined) return
    let message: unknown
    try {
      message = JSON.parse(text)
    } catch {
      // What is left of another conversation.
      return
    }
    if (typeof message !== 'object' || message === null) return
    if ('return' in message && asked.wanted(message.return)) asked.answer.resolve(message.return)
    // While the connection is made, an error is somebody else's: the byte 0xff is answered with one, too.
    else if ('error' in message && asked.what !== 'guest-sync') {
      asked.answer.reject(this.#error(`${asked.what}: ${JSON.stringify(message.error)}`))
    }
  }

  #error(message: string): RefpointError {
    return new RefpointError('tracker', `guest agent at ${this.#path}: ${message}`, {
      hint: 'Is qemu-guest-agent running inside the guest, and nobody else connected to its socket?',
      fields: { agent: this.#path },
    })
  }
}
