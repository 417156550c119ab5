import type { ByteBudget } from './byte-budget.js'
import { type ErrorReply, errorReply } from './error-reply.js'
import { Payload } from './payload.js'
import { command, size } from './protocol.js'
import type { ReadBuffers } from './read-buffers.js'
import { execute, type Reply } from './server-execute.js'
import type { Session } from './server-handshake.js'
import { errorChunk, simpleReply } from './server-reply.js'
import { costBytes, parseRequest, refuse, type Request } from './server-request.js'

export interface TransmissionPeer {
  /** Stops and restarts the client's bytes: a client that asks too much is simply not read. */
  pause(): void
  resume(): void
  /** Sends a reply; `sent` is called when its bytes are the caller's again. */
  send(bytes: Uint8Array, sent: () => void): void
  /** Ends the connection: after what was sent has gone out, or at once. */
  finish(): void
  hangUp(): void
}

export interface TransmissionShare {
  /** Over all connections of the server. */
  readonly budget: ByteBudget
  readonly buffers: ReadBuffers
  readonly connectionCeilingBytes: number
}

/**
 * The server's half of the transmission phase of one connection: cuts requests out of the client's bytes, runs them
 * side by side, and answers each when it is done.
 *
 * A request's memory is taken from the budget when its header has come and given back when its reply has left. While
 * there is none, the client is not read.
 */
export class Transmission {
  readonly #session: Session
  readonly #peer: TransmissionPeer
  readonly #share: TransmissionShare
  readonly #header = Buffer.alloc(size.requestHeader)
  #headerBytes = 0
  #chunk: Uint8Array = new Uint8Array(0)
  #at = 0
  /** Payload of a refused write, still to come and to be thrown away. */
  #skipBytes = 0
  #refused: { readonly request: Request; readonly reply: ErrorReply } | undefined
  #writing: { readonly request: Request; readonly payload: Payload; readonly cost: number } | undefined
  /** A request that waits for memory: its own connection's, or the server's. */
  #waiting: { readonly request: Request; readonly cost: number } | undefined
  #inLine = false
  #heldBytes = 0
  #running = 0
  #unsent = 0
  #ending = false
  #gone = false
  #whenIdle: (() => void)[] = []
  /** Grows whenever the client sends or takes something: tells a slow client from a stalled one. */
  progress = 0

  constructor(session: Session, peer: TransmissionPeer, share: TransmissionShare) {
    this.#session = session
    this.#peer = peer
    this.#share = share
  }

  get heldBytes(): number {
    return this.#heldBytes
  }

  /** True while the backend works for this connection. */
  get running(): boolean {
    return this.#running > 0
  }

  feed(chunk: Uint8Array): void {
    this.progress++
    if (this.#ending || this.#gone) return
    const left = this.#chunk.length - this.#at
    this.#chunk = left === 0 ? chunk : Buffer.concat([this.#chunk.subarray(this.#at), chunk])
    this.#at = 0
    this.#advance()
  }

  /** No more requests are taken; the connection ends when those taken are answered. */
  end(): void {
    this.#ending = true
    this.#abandonIncoming()
    this.#settle()
  }

  /** The client is gone: nothing can be answered any more. */
  gone(): void {
    this.#gone = true
    this.#abandonIncoming()
    this.#settle()
  }

  /** Resolves when the backend does nothing for this connection any more. */
  idle(): Promise<void> {
    if (this.#running === 0) return Promise.resolve()
    return new Promise((resolve) => this.#whenIdle.push(resolve))
  }

  #advance(): void {
    while (this.#at < this.#chunk.length && this.#waiting === undefined && !this.#ending && !this.#gone) {
      if (this.#writing !== undefined) this.#takePayload(this.#writing)
      else if (this.#skipBytes > 0) this.#skip()
      else this.#takeHeader()
    }
    if (this.#at === this.#chunk.length || this.#ending || this.#gone) {
      this.#chunk = new Uint8Array(0)
      this.#at = 0
    }
    if (this.#waiting !== undefined) this.#peer.pause()
  }

  #takePayload({ request, payload, cost }: { request: Request; payload: Payload; cost: number }): void {
    this.#at += payload.add(this.#chunk, this.#at)
    if (!payload.complete) return
    this.#writing = undefined
    this.#run(request, payload.pieces, cost)
  }

  #skip(): void {
    const skipped = Math.min(this.#skipBytes, this.#chunk.length - this.#at)
    this.#at += skipped
    this.#skipBytes -= skipped
    this.#answerRefused()
  }

  #answerRefused(): void {
    if (this.#skipBytes > 0 || this.#refused === undefined) return
    const { request, reply } = this.#refused
    this.#refused = undefined
    this.#begin(request, costBytes({ ...request, type: command.flush }, this.#session), reply)
  }

  #takeHeader(): void {
    const part = this.#chunk.subarray(this.#at, this.#at + size.requestHeader - this.#headerBytes)
    this.#header.set(part, this.#headerBytes)
    this.#headerBytes += part.length
    this.#at += part.length
    if (this.#headerBytes < size.requestHeader) return
    this.#headerBytes = 0
    const request = parseRequest(this.#header)
    if (request === undefined) return this.#peer.hangUp()
    if (request.type === command.disconnect) return this.end()
    const reply = refuse(request, this.#session)
    if (reply === undefined) return this.#begin(request, costBytes(request, this.#session), undefined)
    const payloadBytes = request.type === command.write ? request.length : 0
    // Nobody has to read gigabytes only to say no.
    if (payloadBytes > size.maximumPayload) return this.#peer.hangUp()
    this.#skipBytes = payloadBytes
    this.#refused = { request, reply }
    this.#answerRefused()
  }

  /** Takes the memory for a request, now or later, and starts it. */
  #begin(request: Request, cost: number, refusal: ErrorReply | undefined): void {
    const waiting = { request, cost, refusal }
    this.#waiting = waiting
    this.#tryBegin(waiting)
  }

  readonly #granted = (): void => {
    this.#inLine = false
    const waiting = this.#waiting
    if (waiting === undefined) return
    this.#start(waiting)
    this.#peer.resume()
    this.#advance()
  }

  #tryBegin(waiting: { request: Request; cost: number; refusal?: ErrorReply | undefined }): boolean {
    if (this.#heldBytes > 0 && this.#heldBytes + waiting.cost > this.#share.connectionCeilingBytes) return false
    if (!this.#share.budget.take(waiting.cost, this.#granted)) {
      this.#inLine = true
      return false
    }
    this.#start(waiting)
    return true
  }

  #start(waiting: { request: Request; cost: number; refusal?: ErrorReply | undefined }): void {
    const { request, cost, refusal } = waiting
    this.#waiting = undefined
    this.#heldBytes += cost
    if (refusal !== undefined) this.#send({ bytes: this.#errorBytes(request, refusal) }, cost)
    else if (request.type === command.write && request.length > 0) {
      this.#writing = { request, payload: new Payload(request.length), cost }
    } else this.#run(request, [], cost)
  }

  #run(request: Request, pieces: readonly Uint8Array[], cost: number): void {
    this.#running++
    execute(request, pieces, this.#session, this.#share.buffers).then(
      (reply) => this.#ran(reply, cost),
      (error: unknown) => this.#ran({ bytes: this.#errorBytes(request, errorReply(error)) }, cost),
    )
  }

  #ran(reply: Reply, cost: number): void {
    this.#running--
    if (this.#gone) {
      if (reply.buffer !== undefined) this.#share.buffers.give(reply.buffer)
      this.#settle()
    } else this.#send(reply, cost)
    if (this.#running === 0) for (const resolve of this.#whenIdle.splice(0)) resolve()
  }

  #send({ bytes, buffer }: Reply, cost: number): void {
    this.#unsent++
    this.#peer.send(bytes, () => {
      this.#unsent--
      this.progress++
      if (buffer !== undefined) this.#share.buffers.give(buffer)
      if (!this.#gone) this.#release(cost)
      this.#settle()
    })
  }

  #errorBytes(request: Request, reply: ErrorReply): Buffer {
    return this.#session.structured ? errorChunk(request, reply) : simpleReply(request, reply.error)
  }

  #release(cost: number): void {
    this.#heldBytes -= cost
    this.#share.budget.give(cost)
    if (this.#waiting === undefined || this.#inLine || this.#gone || this.#ending) return
    if (!this.#tryBegin(this.#waiting)) return
    this.#peer.resume()
    this.#advance()
  }

  /** Drops the request that was on its way in. */
  #abandonIncoming(): void {
    if (this.#inLine) this.#share.budget.cancel(this.#granted)
    this.#inLine = false
    this.#waiting = undefined
    const writing = this.#writing
    this.#writing = undefined
    if (writing !== undefined) this.#release(writing.cost)
  }

  #settle(): void {
    if (this.#running > 0) return
    if (this.#gone) {
      const held = this.#heldBytes
      this.#heldBytes = 0
      if (held > 0) this.#share.budget.give(held)
    } else if (this.#ending && this.#unsent === 0) this.#peer.finish()
  }
}
