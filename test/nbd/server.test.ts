import { once } from 'node:events'
import { chmodSync, existsSync, mkdirSync, statSync, writeFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { execa } from 'execa'
import { describe, expect, it, onTestFinished } from 'vitest'
import { connectNbd } from '../../src/nbd/client.js'
import { serveNbd } from '../../src/nbd/server.js'
import { temporaryFolder } from '../temporary.js'
import { memoryBackend } from './memory-backend.js'
import { serve } from './programs.js'
import { greet, option, optionGo, request } from './wire-bytes.js'

const mib = 1024 * 1024
const exports = new Map([['disk', memoryBackend(mib)]])

async function dial(path: string): Promise<Socket> {
  const socket = connect({ path })
  socket.on('error', () => {})
  onTestFinished(() => void socket.destroy())
  await once(socket, 'connect')
  return socket
}

const closed = (socket: Socket): Promise<void> =>
  new Promise((resolve) => {
    socket.once('close', () => resolve())
    socket.resume()
  })

describe('where the server listens', () => {
  it('makes a socket for this user only, in a folder for this user only', async () => {
    const folder = join(temporaryFolder(), 'made')
    const path = join(folder, 'nbd.sock')
    const server = await serveNbd({ exports, listen: { path } })
    expect(statSync(folder).mode & 0o777).toBe(0o700)
    expect(statSync(path).mode & 0o777).toBe(0o600)
    await server.close()
    await server.close()
    expect(existsSync(path)).toBe(false)
  })

  it('refuses a folder in which others may write, and a path that is too long or no socket', async () => {
    const folder = join(temporaryFolder(), 'open')
    mkdirSync(folder)
    chmodSync(folder, 0o777)
    const usage = { code: 'usage' }
    await expect(serveNbd({ exports, listen: { path: join(folder, 's') } })).rejects.toMatchObject(usage)
    await expect(serveNbd({ exports, listen: { path: `/tmp/${'x'.repeat(120)}` } })).rejects.toMatchObject(usage)
    const file = join(temporaryFolder(), 'file')
    writeFileSync(file, 'precious')
    await expect(serveNbd({ exports, listen: { path: file } })).rejects.toMatchObject(usage)
    expect(statSync(file).size).toBe(8)
  })

  it('replaces the socket of a dead server, and not that of a live one', async () => {
    const path = join(temporaryFolder(), 'nbd.sock')
    const leave = "require('net').createServer().listen(process.argv[1], () => process.kill(process.pid, 'SIGKILL'))"
    await execa(process.execPath, ['-e', leave, path], { reject: false })
    expect(existsSync(path)).toBe(true)
    const server = await serveNbd({ exports, listen: { path } })
    onTestFinished(() => server.close())
    await expect(serveNbd({ exports, listen: { path } })).rejects.toMatchObject({ code: 'locked' })
    const client = await connectNbd({ path })
    expect(client.sizeBytes).toBe(mib)
    await client.disconnect()
  })

  it('listens on loopback and nowhere else', async () => {
    const server = await serveNbd({ exports, listen: { port: 0 } })
    onTestFinished(() => server.close())
    if (!('port' in server.address)) throw new Error('no port')
    const client = await connectNbd(server.address)
    await client.write(Buffer.alloc(5, 1), 3)
    await client.disconnect()
    const taken = { exports, listen: { port: server.address.port } }
    await expect(serveNbd(taken)).rejects.toMatchObject({ code: 'locked' })
    for (const host of ['0.0.0.0', '::', '192.168.1.1', 'example.com']) {
      await expect(serveNbd({ exports, listen: { host, port: 0 } })).rejects.toMatchObject({ code: 'usage' })
    }
  })
})

describe('what the server endures', () => {
  it('cuts off who does not finish the handshake', async () => {
    const { path, server } = await serve(memoryBackend(mib), { handshakeTimeoutMs: 100 })
    const silent = await dial(path)
    const slow = await dial(path)
    slow.write(greet().subarray(0, 2))
    await Promise.all([closed(silent), closed(slow)])
    await delay(10)
    expect(server.connections).toBe(0)
  })

  it('cuts off a flood of options, and of connections', async () => {
    const { path, server } = await serve(memoryBackend(mib), { connections: 3 })
    const flood = await dial(path)
    flood.write(Buffer.concat([greet(), ...Array.from({ length: 2000 }, () => option(3))]))
    await closed(flood)
    const many = await Promise.all(Array.from({ length: 3 }, () => dial(path)))
    await closed(await dial(path))
    expect(server.connections).toBe(3)
    for (const socket of many) socket.destroy()
  })

  it('does not read a client that does not take its replies, and serves others meanwhile', async () => {
    const { path, server } = await serve(memoryBackend(8 * mib))
    const greedy = await dial(path)
    greedy.pause()
    greedy.write(Buffer.concat([greet(), optionGo('disk'),
      ...Array.from({ length: 500 }, (_, handle) => request({ type: 0, handle, length: mib }))]))
    const client = await connectNbd({ path })
    await client.write(Buffer.alloc(100, 5), 0)
    await delay(100)
    expect(server.bufferedBytes).toBeGreaterThan(mib)
    expect(server.peakBufferedBytes).toBeLessThan(4 * mib)
    await client.disconnect()
    greedy.destroy()
    await expect.poll(() => server.bufferedBytes).toBe(0)
  })

  it('cuts off who holds the memory that others wait for, and moves nothing', async () => {
    const { path, server } = await serve(memoryBackend(64 * mib), { bufferedBytes: 40 * mib, stallTimeoutMs: 150 })
    const holder = await dial(path)
    const header = request({ type: 1, handle: 1, length: 32 * mib })
    holder.write(Buffer.concat([greet(), optionGo('disk'), header, Buffer.alloc(1000)]))
    const client = await connectNbd({ path })
    await expect.poll(() => server.bufferedBytes).toBeGreaterThan(32 * mib)
    const gone = closed(holder)
    await client.write(Buffer.alloc(32 * mib, 9), 0)
    await gone
    await client.disconnect()
    expect(server.peakBufferedBytes).toBeLessThanOrEqual(40 * mib)
  })

  it('takes a payload that drips in by single bytes', async () => {
    const backend = memoryBackend(mib)
    const { path } = await serve(backend)
    const socket = await dial(path)
    const content = Buffer.from(Array.from({ length: 300 }, (_, index) => index % 251))
    const write = request({ type: 1, handle: 1, length: 300 })
    for (const byte of Buffer.concat([greet(), optionGo('disk'), write, content])) {
      socket.write(Buffer.of(byte))
      await new Promise(setImmediate)
    }
    socket.write(request({ type: 2, handle: 2, length: 0 }))
    await closed(socket)
    expect(backend.content().subarray(0, 300).equals(content)).toBe(true)
  })

  it('finishes what it took before it closes, and gives up on a client that takes nothing', async () => {
    const backend = memoryBackend(4 * mib)
    const { path, server } = await serve(backend, { closeGraceMs: 200 })
    let writing = false
    backend.before = async (what) => {
      if (what !== 'write') return
      writing = true
      await delay(50)
    }
    const client = await connectNbd({ path })
    const written = client.write(Buffer.alloc(100, 3), 0)
    const stuck = await dial(path)
    stuck.pause()
    stuck.write(Buffer.concat([greet(), optionGo('disk'), request({ type: 0, handle: 1, length: 4 * mib })]))
    await expect.poll(() => writing && server.bufferedBytes > 4 * mib).toBe(true)
    await server.close()
    await written
    expect(backend.content()[99]).toBe(3)
    expect(server.bufferedBytes).toBe(0)
    await client.disconnect()
  })

  it('hangs up on a payload that no honest client sends', async () => {
    const { path } = await serve(memoryBackend(mib))
    const socket = await dial(path)
    socket.write(Buffer.concat([greet(), optionGo('disk'), request({ type: 1, handle: 1, length: 2 ** 32 - 1 })]))
    await closed(socket)
    const client = await connectNbd({ path })
    expect(client.sizeBytes).toBe(mib)
    await client.disconnect()
  })
})
