import { createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { temporaryFolder } from '../../temporary.js'

export interface ScriptedAgent {
  readonly path: string
  /** The commands that came, in order, without `guest-sync`. */
  readonly commands: readonly string[]
  /** Resolves when a command has come so many times. */
  came(command: string, times?: number): Promise<void>
}

/**
 * A peer that speaks the guest agent's protocol, one client at a time, for what a real agent can't be brought to do.
 * @param answer what it sends for a command; undefined: nothing, ever
 */
export async function scriptedAgent(answer: (command: string) => string | undefined): Promise<ScriptedAgent> {
  const path = join(temporaryFolder(), 'agent.sock')
  const commands: string[] = []
  const watchers = new Set<() => void>()
  let line: Promise<void> = Promise.resolve()
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.pause()
    socket.on('error', () => {})
    const closed = new Promise<void>((resolve) => socket.on('close', () => resolve()))
    // The next client is served when this one has gone, as QEMU's character devices do.
    line = line.then(() => {
      socket.on('data', (bytes) => take(bytes.toString('latin1'), socket))
      return closed
    })
    // A paused socket does not tell its end.
    setImmediate(() => socket.resume())
  })
  function take(text: string, socket: Socket): void {
    for (const part of text.split('\n')) {
      const json = /\{.*\}/.exec(part)?.[0]
      if (json === undefined) continue
      const { execute, arguments: args } = JSON.parse(json) as { execute: string; arguments: { id?: number } }
      if (execute === 'guest-sync') {
        // What was left in the channel comes first.
        socket.write(`{"return": 77}\n{"return": ${args.id}}\n`)
        continue
      }
      commands.push(execute)
      const reply = answer(execute)
      if (reply !== undefined) socket.write(`${reply}\n`)
      for (const watcher of watchers) watcher()
    }
  }
  await new Promise<void>((resolve) => server.listen(path, resolve))
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return {
    path,
    commands,
    came: (command, times = 1) =>
      new Promise((resolve) => {
        const look = (): void => {
          if (commands.filter((name) => name === command).length < times) return
          watchers.delete(look)
          resolve()
        }
        watchers.add(look)
        look()
      }),
  }
}
