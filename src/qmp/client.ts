import { RefpointError } from '../model/errors.js'
import { LineSocket } from './line-socket.js'
import { type QmpEvent, type QmpMessage, parseMessage, type QemuVersion } from './messages.js'
import { type Waiting, waiting } from './waiting.js'

export type { QemuVersion, QmpEvent } from './messages.js'

export interface QmpConnectOptions {
  /** For the greeting and the capabilities. */
  readonly handshakeTimeoutMs?: number
  /** For each command that says nothing else. */
  readonly commandTimeoutMs?: number
  readonly signal?: AbortSignal
}

export interface QmpWaitOptions {
  readonly timeoutMs?: number
  readonly signal?: AbortSignal
}

/**
 * One connection to QEMU's monitor (QMP) on a unix socket. QEMU runs commands one after the other and sends events
 * between the answers.
 *
 * Every call resolves, or rejects with RefpointError `tracker` or with the signal's reason, unwrapped. `fields.class`
 * and `fields.reason` are what QEMU answered; they are absent where the connection was lost or the time was over: then
 * the command may have been run, and may still be.
 */
export interface QmpClient extends AsyncDisposable {
  readonly version: QemuVersion
  /** Whether the connection is lost, so that no later call can succeed. */
  readonly lost: boolean
  execute(command: string, args?: object, options?: QmpWaitOptions): Promise<unknown>
  /**
   * The next event that `wanted` accepts, from this call on: ask before the command whose end it tells. It may be
   * dropped without waiting for it.
   */
  waitForEvent(wanted: (event: QmpEvent) => boolean, options?: QmpWaitOptions): Promise<QmpEvent>
  /** Hangs up. Safe to call twice. */
  close(): void
}

const defaultHandshakeTimeoutMs = 10_000
const defaultCommandTimeoutMs = 60_000

/**
 * Connects and leaves negotiation mode. @throws RefpointError `tracker`: nobody listens, it is no QMP socket, or no
 * greeting comes since another program is connected to this socket: QEMU serves one at a time.
 */
export async function connectQmp(path: string, options: QmpConnectOptions = {}): Promise<QmpClient> {
  const { handshakeTimeoutMs = defaultHandshakeTimeoutMs, commandTimeoutMs = defaultCommandTimeoutMs, signal } = options
  signal?.throwIfAborted()
  const session = new Session(path, commandTimeoutMs)
  try {
    await session.greeted(handshakeTimeoutMs, signal)
    await session.execute('qmp_capabilities', {}, { timeoutMs: handshakeTimeoutMs, ...(signal && { signal }) })
    return session
  } catch (error) {
    session.close()
    throw error
  }
}

interface EventWaiter {
  readonly wanted: (event: QmpEvent) => boolean
  readonly waiting: Waiting<QmpEvent>
}

class Session implements QmpClient {
  readonly #path: string
  readonly #commandTimeoutMs: number
  readonly #socket: LineSocket
  readonly #commands = new Map<number, { readonly command: string; readonly waiting: Waiting<unknown> }>()
  readonly #events = new Set<EventWaiter>()
  #greeting: Waiting<QemuVersion> | undefined
  #version: QemuVersion | undefined
  #failure: RefpointError | undefined
  #id = 0

  constructor(path: string, commandTimeoutMs: number) {
    this.#path = path
    this.#commandTimeoutMs = commandTimeoutMs
    this.#socket = new LineSocket(path, {
      line: (text) => this.#line(text),
      lost: (cause) => this.#lost(cause),
    })
  }

  get version(): QemuVersion {
    if (this.#version === undefined) throw this.#error('it has not said its version')
    return this.#version
  }

  get lost(): boolean {
    return this.#failure !== undefined
  }

  async greeted(timeoutMs: number, signal: AbortSignal | undefined): Promise<void> {
    this.#greeting = waiting<QemuVersion>({
      timeoutMs,
      signal,
      settled: () => {},
      timedOut: () =>
        this.#error(`no greeting within ${timeoutMs} ms`, {
          hint: 'QEMU serves one program on each QMP socket: give refpoint one of its own. Or QEMU itself hangs.',
        }),
    })
    if (this.#failure !== undefined) this.#greeting.reject(this.#failure)
    this.#version = await this.#greeting.promise
  }

  execute(command: string, args: object = {}, options: QmpWaitOptions = {}): Promise<unknown> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    const id = ++this.#id
    const { timeoutMs = this.#commandTimeoutMs, signal } = options
    if (signal?.aborted === true) return Promise.reject(signal.reason)
    const answer = waiting<unknown>({
      timeoutMs,
      signal,
      // A late answer finds nobody, and is dropped.
      settled: () => this.#commands.delete(id),
      timedOut: () => this.#error(`${command} was not answered within ${timeoutMs} ms`, { fields: { command } }),
    })
    this.#commands.set(id, { command, waiting: answer })
    this.#socket.send(`${JSON.stringify({ execute: command, arguments: args, id })}\n`)
    return answer.promise
  }

  waitForEvent(wanted: (event: QmpEvent) => boolean, options: QmpWaitOptions = {}): Promise<QmpEvent> {
    const { timeoutMs = this.#commandTimeoutMs, signal } = options
    if (signal?.aborted === true) return Promise.reject(signal.reason)
    const waiter: EventWaiter = {
      wanted,
      waiting: waiting<QmpEvent>({
        timeoutMs,
        signal,
        settled: () => this.#events.delete(waiter),
        timedOut: () => this.#error(`an event did not come within ${timeoutMs} ms`),
      }),
    }
    if (this.#failure !== undefined) waiter.waiting.reject(this.#failure)
    else this.#events.add(waiter)
    return waiter.waiting.promise
  }

  close(): void {
    this.#socket.close()
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.close()
    return Promise.resolve()
  }

  #line(text: string): void {
    if (text === '') return
    let message: QmpMessage
    try {
      message = parseMessage(text)
    } catch (cause) {
      this.#socket.close(new Error(`this is not QMP: ${text.slice(0, 80)}`, { cause }))
      return
    }
    switch (message.kind) {
      case 'greeting':
        this.#greeting?.resolve(message.version)
        return
      case 'event':
        for (const waiter of [...this.#events]) if (waiter.wanted(message.event)) waiter.waiting.resolve(message.event)
        return
      case 'return':
        this.#commands.get(message.id)?.waiting.resolve(message.value)
        return
      case 'error':
        this.#refused(message)
    }
  }

  #refused({ id, errorClass, description }: Extract<QmpMessage, { kind: 'error' }>): void {
    // An error without an ID is QEMU's complaint about what it could not even parse: the connection is beyond use.
    if (id === undefined) {
      this.#socket.close(new Error(`it did not understand: ${description}`))
      return
    }
    const asked = this.#commands.get(id)
    const fields = { command: asked?.command, class: errorClass, reason: description }
    asked?.waiting.reject(this.#error(`${asked.command}: ${description}`, { fields }))
  }

  #lost(cause: Error | undefined): void {
    const why = cause === undefined ? 'it hung up' : cause.message
    this.#failure = this.#error(why, {
      ...(cause === undefined ? {} : { cause }),
      hint: 'Is the machine running, and may this user use its QMP socket?',
    })
    this.#greeting?.reject(this.#failure)
    for (const { waiting: answer } of [...this.#commands.values()]) answer.reject(this.#failure)
    for (const { waiting: event } of [...this.#events]) event.reject(this.#failure)
  }

  #error(message: string, details: { cause?: unknown; hint?: string; fields?: object } = {}): RefpointError {
    const { fields, ...others } = details
    return new RefpointError('tracker', `QEMU at ${this.#path}: ${message}`, {
      ...others,
      fields: { qmp: this.#path, ...fields },
    })
  }
}
