import { connect, type Socket } from 'node:net'
import type { z } from 'zod'
import { type ErrorCode, RefpointError } from '../../model/errors.js'
import { answerSchema, type ControlCall, controlPath, maxLineLength } from './control-protocol.js'
import { takeLines } from './socket-lines.js'

interface Waiting {
  resolve(result: unknown): void
  reject(error: Error): void
}

/** A connection to the server of a disk. */
export class ControlClient {
  readonly #socket: Socket
  readonly #folder: string
  readonly #waiting = new Map<number, Waiting>()
  #lastId = 0
  #lost = false

  private constructor(socket: Socket, folder: string) {
    this.#socket = socket
    this.#folder = folder
    socket.on('error', () => socket.destroy())
    socket.once('close', () => this.#lose())
    takeLines(socket, maxLineLength, (line) => this.#take(line))
  }

  /** Undefined when no server listens for this disk. */
  static async connect(folder: string): Promise<ControlClient | undefined> {
    let path: string
    try {
      path = controlPath(folder)
    } catch {
      // No server can listen there.
      return undefined
    }
    return new Promise((resolve, reject) => {
      const socket = connect(path)
      socket.once('connect', () => resolve(new ControlClient(socket, folder)))
      socket.once('error', (error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT' || error.code === 'ECONNREFUSED') resolve(undefined)
        else {
          const what = `cannot reach the server of ${folder}: ${error.message}`
          reject(new RefpointError('tracker', what, { cause: error }))
        }
      })
    })
  }

  /** False once the server is gone, and with it every checkpoint taken here. */
  get connected(): boolean {
    return !this.#lost
  }

  async call<T extends z.ZodType>(call: ControlCall, result: T): Promise<z.infer<T>> {
    const parsed = result.safeParse(await this.#ask(call))
    if (parsed.success) return parsed.data
    throw new RefpointError('tracker', `the server of ${this.#folder} gave an answer that makes no sense`, {
      hint: 'It may be of another version: restart it.',
    })
  }

  #ask(call: ControlCall): Promise<unknown> {
    if (this.#lost) return Promise.reject(this.#gone())
    this.#lastId += 1
    const id = this.#lastId
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject })
      this.#socket.write(`${JSON.stringify({ id, ...call })}\n`)
    })
  }

  #take(line: string): void {
    const answer = answerSchema.safeParse(parseJson(line))
    if (!answer.success) {
      this.#socket.destroy()
      return
    }
    const { id, result, error } = answer.data
    const waiting = this.#waiting.get(id)
    this.#waiting.delete(id)
    if (error === undefined) waiting?.resolve(result)
    else {
      const details = error.hint === undefined ? {} : { hint: error.hint }
      waiting?.reject(new RefpointError(error.code as ErrorCode, error.message, details))
    }
  }

  #lose(): void {
    this.#lost = true
    for (const { reject } of this.#waiting.values()) reject(this.#gone())
    this.#waiting.clear()
  }

  #gone(): RefpointError {
    return new RefpointError('tracker', `the server of ${this.#folder} went away`, {
      hint: 'Start it again with `refpoint disk serve`, and run this again.',
    })
  }

  close(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#socket.destroyed) resolve()
      else {
        this.#socket.once('close', () => resolve())
        this.#socket.destroy()
      }
    })
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
