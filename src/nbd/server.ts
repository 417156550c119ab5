import { createServer, type Socket } from 'node:net'
import { RefpointError } from '../model/errors.js'
import { ByteBudget } from './byte-budget.js'
import { exportLookup, type Exports } from './exports.js'
import { type BoundAddress, type ListenOn, listenOn } from './listen.js'
import { ReadBuffers } from './read-buffers.js'
import { Connection } from './server-connection.js'
import { mostCostBytes } from './server-request.js'

export interface NbdServerLimits {
  /** What requests of all clients together may hold in memory. */
  readonly bufferedBytes: number
  /** The same for one client, which may exceed it by a single large request. More than this makes caches miss. */
  readonly bufferedBytesPerConnection: number
  readonly connections: number
  /** A client that is not done haggling by then is cut off. */
  readonly handshakeTimeoutMs: number
  /** A client that holds memory others wait for, and moves no byte for this long, is cut off. */
  readonly stallTimeoutMs: number
  /** How long `close` waits for clients to take their last replies. */
  readonly closeGraceMs: number
}

export const defaultNbdServerLimits: NbdServerLimits = {
  bufferedBytes: 64 * 1024 * 1024,
  bufferedBytesPerConnection: 2 * 1024 * 1024,
  connections: 64,
  handshakeTimeoutMs: 15_000,
  stallTimeoutMs: 30_000,
  closeGraceMs: 5_000,
}

export interface NbdServerOptions {
  readonly exports: Exports
  readonly listen: ListenOn
  readonly limits?: Partial<NbdServerLimits>
}

export interface NbdServer extends AsyncDisposable {
  readonly address: BoundAddress
  /** Clients connected now. */
  readonly connections: number
  /** What requests hold in memory, now and at most so far, in bytes. */
  readonly bufferedBytes: number
  readonly peakBufferedBytes: number
  /** Resolves when every request that was taken is done and no backend is used any more. Safe to call twice. */
  close(): Promise<void>
}

/**
 * Serves exports over NBD: fixed newstyle, structured replies, meta contexts. No client can make it throw, or hold
 * more than `limits.bufferedBytes`, besides about 256 KiB of socket buffers for each connection and 8 MiB of buffers
 * kept for the next reads.
 * @throws RefpointError `locked` when another server is at that address, `usage` when the address is not allowed.
 */
export async function serveNbd(options: NbdServerOptions): Promise<NbdServer> {
  const limits = checkedLimits({ ...defaultNbdServerLimits, ...options.limits })
  const lookup = exportLookup(options.exports)
  const budget = new ByteBudget(limits.bufferedBytes)
  const share = {
    budget,
    buffers: new ReadBuffers(),
    connectionCeilingBytes: limits.bufferedBytesPerConnection,
  }
  const connections = new Set<Connection>()
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket: Socket) => {
    if (connections.size >= limits.connections) {
      socket.destroy()
      return
    }
    const connection = new Connection(socket, lookup, share, limits)
    connections.add(connection)
    void connection.closed().then(() => connections.delete(connection))
  })
  const address = await listenOn(server, options.listen)
  // Errors of accept (out of descriptors) concern one client, not those that are served.
  server.on('error', () => {})
  const sweep = setInterval(() => {
    if (budget.contended) for (const connection of connections) connection.dropIfStalled()
  }, limits.stallTimeoutMs).unref()

  let closing: Promise<void> | undefined
  const close = async (): Promise<void> => {
    clearInterval(sweep)
    const closed = new Promise<void>((resolve) => server.close(() => resolve()))
    await Promise.all([...connections].map((connection) => connection.shutDown(limits.closeGraceMs)))
    await closed
  }
  return {
    address,
    get connections() {
      return connections.size
    },
    get bufferedBytes() {
      return budget.takenBytes
    },
    get peakBufferedBytes() {
      return budget.peakBytes
    },
    close: () => (closing ??= close()),
    [Symbol.asyncDispose]: () => (closing ??= close()),
  }
}

function checkedLimits(limits: NbdServerLimits): NbdServerLimits {
  if (limits.bufferedBytes < mostCostBytes) {
    throw new RefpointError('usage', `bufferedBytes must be at least ${mostCostBytes}: one request of 32 MiB`)
  }
  return limits
}
