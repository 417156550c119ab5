/*
 * A few places on this host for many processes: whoever wants one takes the first that is free. A place is the name of an
 * abstract unix socket, which the kernel gives back with the process, however that ends. Abstract names belong to a
 * network namespace: processes in two of them do not see each other's.
 */
import { createHash } from 'node:crypto'
import { createServer, type Server } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

/** What is limited, and how many may do it at once. */
export interface Places {
  /** Names it for all processes of this host: a device, a repository. */
  readonly key: string
  readonly count: number
}

/** Takes a place of each, in this order, which must be the same for everybody; gives all back at the end. */
export async function withPlaces<Result>(
  wanted: readonly Places[],
  { signal, onWaiting }: { readonly signal: AbortSignal; readonly onWaiting: (key: string) => void },
  body: () => Promise<Result>,
): Promise<Result> {
  const held: Server[] = []
  try {
    for (const places of wanted) held.push(await takePlace(places, signal, () => onWaiting(places.key)))
    return await body()
  } finally {
    await Promise.all(held.map((server) => new Promise<void>((done) => void server.close(() => done()))))
  }
}

async function takePlace({ key, count }: Places, signal: AbortSignal, onWaiting: () => void): Promise<Server> {
  const name = createHash('sha256').update(`refpoint place\n${key}`).digest('hex').slice(0, 24)
  let waiting = false
  for (;;) {
    for (let place = 0; place < count; place += 1) {
      signal.throwIfAborted()
      const server = await listen(`\0refpoint-place-${name}-${place}`)
      if (server !== undefined) return server
    }
    if (!waiting) onWaiting()
    waiting = true
    // Not all at the same moment, so that nobody is always the last.
    await sleep(100 + Math.random() * 400, undefined, { signal }).catch(() => signal.throwIfAborted())
  }
}

/** Undefined where somebody has the name. */
function listen(path: string): Promise<Server | undefined> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy())
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') resolve(undefined)
      else reject(error)
    })
    server.listen(path, () => {
      server.unref()
      resolve(server)
    })
  })
}
