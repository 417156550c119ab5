import { randomUUID } from 'node:crypto'
import { chmod, unlink } from 'node:fs/promises'
import { createServer, type Server, type Socket } from 'node:net'
import { RefpointError } from '../../model/errors.js'
import { type ControlRequest, controlPath, maxLineLength, requestSchema } from './control-protocol.js'
import type { DiskCheckpoint, DiskSet } from './disk-set.js'
import { takeLines } from './socket-lines.js'

/** Listens on the control socket of every disk of the set. The folders' locks are held: an old socket is a dead one. */
export async function serveControl(set: DiskSet): Promise<AsyncDisposable> {
  const identity = randomUUID()
  const sockets = new Set<Socket>()
  const servers: Server[] = []
  async function close(): Promise<void> {
    for (const socket of sockets) socket.destroy()
    await Promise.all(servers.map((server) => new Promise<void>((resolve) => server.close(() => resolve()))))
  }
  try {
    for (const folder of set.folders) {
      const path = controlPath(folder)
      await unlink(path).catch(() => undefined)
      const server = createServer((socket) => {
        sockets.add(socket)
        socket.once('close', () => sockets.delete(socket))
        serveConnection(socket, set, identity)
      })
      servers.push(server)
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject)
        server.listen(path, resolve)
      })
      await chmod(path, 0o600)
    }
  } catch (error) {
    await close()
    throw error
  }
  return { [Symbol.asyncDispose]: close }
}

function serveConnection(socket: Socket, set: DiskSet, identity: string): void {
  const checkpoints = new Map<number, DiskCheckpoint>()
  let lastId = 0
  let gone = false

  async function answer(request: ControlRequest): Promise<unknown> {
    switch (request.op) {
      case 'info':
        return { server: identity, pid: process.pid, folders: set.folders }
      case 'checkpoint': {
        const { time, consistency, disks, release } = await set.checkpoint(request.disks)
        if (gone) {
          release()
          return undefined
        }
        lastId += 1
        checkpoints.set(lastId, { time, consistency, disks, release })
        return { checkpoint: lastId, time, consistency, disks }
      }
      case 'release':
        checkpoints.get(request.checkpoint)?.release()
        checkpoints.delete(request.checkpoint)
        return {}
      case 'checkpointAs':
        return set.checkpointAs(request.name, request.disks)
      case 'rollback':
        await set.rollback(request.disk, request.name)
        return {}
      case 'merge':
        return set.merge(request.disk, request.name)
      case 'resize':
        await set.resize(request.disk, request.sizeBytes)
        return {}
    }
  }

  function send(message: unknown): void {
    if (!gone) socket.write(`${JSON.stringify(message)}\n`)
  }

  socket.on('error', () => socket.destroy())
  socket.once('close', () => {
    gone = true
    for (const { release } of checkpoints.values()) release()
    checkpoints.clear()
  })
  takeLines(socket, maxLineLength, (line) => {
    const request = requestSchema.safeParse(parseJson(line))
    if (!request.success) {
      socket.destroy()
      return
    }
    const { id } = request.data
    answer(request.data).then(
      (result) => send({ id, result }),
      (error: unknown) => send({ id, error: describe(error) }),
    )
  })
}

function describe(error: unknown): { code: string; message: string; hint?: string | undefined } {
  if (error instanceof RefpointError) return { code: error.code, message: error.message, hint: error.hint }
  return { code: 'io', message: error instanceof Error ? error.message : String(error) }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
