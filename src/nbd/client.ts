import { RefpointError } from '../model/errors.js'
import type { Backend, StatusRun } from './backend.js'
import { type Agreement, ClientHandshake } from './client-handshake.js'
import { ClientSession } from './client-session.js'
import { type NbdAddress, Wire } from './client-wire.js'
import type { ExportName } from './exports.js'

export type { NbdAddress } from './client-wire.js'

export interface NbdConnectOptions {
  /** '' asks for the server's default export. */
  readonly exportName?: string
  /** Meta contexts to ask for, such as `base:allocation`. */
  readonly contexts?: readonly string[]
  /** For everything up to the first request. */
  readonly handshakeTimeoutMs?: number
  /** A server that moves no byte for so long while a request waits is given up. */
  readonly replyTimeoutMs?: number
  /** Ends the connection: every request rejects with its reason. One request can't be taken back alone. */
  readonly signal?: AbortSignal
}

/**
 * One connection to an NBD export. Requests may be made side by side and are answered in any order. Offsets and
 * lengths are bytes; requests larger than the server takes are split.
 *
 * Whatever the server does, a call rejects with RefpointError `tracker` or resolves: `fields.error` has the protocol's
 * name of an error that the server answered (`ENOSPC`), and is absent where the connection is lost, which then is so
 * for every later call.
 */
export interface NbdClient extends AsyncDisposable {
  readonly sizeBytes: number
  readonly readOnly: boolean
  /** The protocol's transmission flags, as the server sent them. */
  readonly flags: number
  readonly structured: boolean
  readonly blockSizes: Backend['blockSizes']
  readonly description: string | undefined
  /** The contexts asked for that the server knows. */
  readonly contexts: readonly string[]
  /** Fills all of `into`, which must not be used before it settles. */
  read(into: Uint8Array, offset: number): Promise<void>
  /** The pieces must not change before it settles. */
  write(bytes: Uint8Array | readonly Uint8Array[], offset: number, options?: { readonly fua?: boolean }): Promise<void>
  /** Makes a range read as zeroes; without `punch` the space stays allocated. */
  zero(
    offset: number,
    length: number,
    options?: { readonly punch?: boolean; readonly fua?: boolean },
  ): Promise<void>
  trim(offset: number, length: number, options?: { readonly fua?: boolean }): Promise<void>
  flush(): Promise<void>
  /**
   * What the server says of a range in one reply, per context: runs that start at `offset`, at least one, often less
   * than the whole range, never more.
   */
  blockStatus(
    offset: number,
    length: number,
    options?: { readonly one?: boolean },
  ): Promise<ReadonlyMap<string, readonly StatusRun[]>>
  /** Waits for what is under way, says goodbye and hangs up. Safe to call twice. */
  disconnect(): Promise<void>
}

const defaultHandshakeTimeoutMs = 15_000
const defaultReplyTimeoutMs = 300_000

/** Connects to one export. @throws RefpointError `tracker`, or the signal's reason. */
export async function connectNbd(address: NbdAddress, options: NbdConnectOptions = {}): Promise<NbdClient> {
  const { exportName = '', contexts = [], replyTimeoutMs = defaultReplyTimeoutMs } = options
  let agreed: Agreement | undefined
  const wire = await shakeHands(address, options, async (handshake) => {
    agreed = await handshake.go(exportName, contexts)
  })
  if (agreed === undefined) throw wire.error('nothing was agreed on')
  return new ClientSession(wire, agreed, replyTimeoutMs)
}

/** The exports that a server lists. @throws RefpointError `tracker`, or the signal's reason. */
export async function listNbdExports(
  address: NbdAddress,
  options: Pick<NbdConnectOptions, 'handshakeTimeoutMs' | 'signal'> = {},
): Promise<readonly ExportName[]> {
  let exports: readonly ExportName[] = []
  const wire = await shakeHands(address, options, async (handshake) => {
    exports = await handshake.list()
    // Some servers hang up on ABORT without an answer; the list is complete all the same.
    await handshake.abort().catch(() => {})
  })
  wire.finish()
  await wire.closed
  return exports
}

async function shakeHands(
  address: NbdAddress,
  { handshakeTimeoutMs = defaultHandshakeTimeoutMs, signal }: NbdConnectOptions,
  talk: (handshake: ClientHandshake) => Promise<void>,
): Promise<Wire> {
  const handshake = new ClientHandshake()
  const wire = new Wire(address, handshake, signal)
  const timeout = wire.error(`the handshake took more than ${handshakeTimeoutMs} ms`)
  const timer = setTimeout(() => wire.fail(timeout), handshakeTimeoutMs)
  try {
    await handshake.greet(wire)
    await talk(handshake)
    return wire
  } catch (error) {
    // What ended the connection is the reason; otherwise it is what the server said.
    if (wire.failure !== undefined) throw wire.failure.reason
    const message = error instanceof Error ? error.message : String(error)
    const failure = error instanceof RefpointError ? error : wire.error(message, { cause: error })
    wire.fail(failure)
    throw failure
  } finally {
    clearTimeout(timer)
  }
}
