import { createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { connectQmp, type QmpClient } from '../../src/qmp/client.js'
import { describeWith } from '../layers.js'
import { QemuProcess } from '../qemu/qemu-process.js'
import { temporaryFolder } from '../temporary.js'

const greeting = '{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": ""}, "capabilities": []}}'

async function connected(path: string): Promise<QmpClient> {
  const client = await connectQmp(path)
  onTestFinished(() => client.close())
  return client
}

describeWith(['qemu-system-x86_64'], 'QMP with a real QEMU', () => {
  it('tells the version, runs commands side by side and tells errors as QEMU does', async () => {
    const machine = await QemuProcess.start({ folder: temporaryFolder(), args: [] })
    const client = await connected(machine.qmpPath)
    expect(client.version.major).toBeGreaterThanOrEqual(7)
    const [status, name, failure] = await Promise.all([
      client.execute('query-status'),
      client.execute('query-name'),
      client.execute('blockdev-del', { 'node-name': 'nobody' }).catch((error: unknown) => error),
    ])
    expect(status).toMatchObject({ running: false })
    expect(name).toEqual({ name: 'machine' })
    expect(failure).toMatchObject({
      code: 'tracker',
      message: expect.stringContaining('blockdev-del: Failed to find node'),
      fields: { command: 'blockdev-del', class: 'GenericError' },
    })
  })

  it('finds the event that it waits for between answers', async () => {
    const machine = await QemuProcess.start({ folder: temporaryFolder(), args: [] })
    const client = await connected(machine.qmpPath)
    const stopped = client.waitForEvent(({ event }) => event === 'STOP')
    await client.execute('cont')
    const [event] = await Promise.all([stopped, client.execute('stop'), client.execute('query-status')])
    expect(event.event).toBe('STOP')
  })

  it('says that another program has the socket', async () => {
    const machine = await QemuProcess.start({ folder: temporaryFolder(), args: [] })
    await connected(machine.qmpPath)
    const second = connectQmp(machine.qmpPath, { handshakeTimeoutMs: 300 })
    await expect(second).rejects.toMatchObject({ code: 'tracker', hint: expect.stringContaining('one of its own') })
  })

  it('rejects everything that waits when QEMU dies, and what is asked later', async () => {
    const machine = await QemuProcess.start({ folder: temporaryFolder(), args: [] })
    const client = await connected(machine.qmpPath)
    machine.signal('SIGSTOP')
    const waiting = [client.execute('query-block'), client.waitForEvent(() => true)]
    await machine.kill()
    for (const result of await Promise.allSettled(waiting)) {
      expect(result).toMatchObject({ status: 'rejected', reason: { code: 'tracker' } })
    }
    expect(client.lost).toBe(true)
    await expect(client.execute('query-status')).rejects.toMatchObject({ code: 'tracker' })
  })

  it('gives up waiting at the time limit and at an abort, and goes on', async () => {
    const machine = await QemuProcess.start({ folder: temporaryFolder(), args: [] })
    const client = await connected(machine.qmpPath)
    machine.signal('SIGSTOP')
    await expect(client.execute('query-status', {}, { timeoutMs: 50 })).rejects.toThrow('within 50 ms')
    const controller = new AbortController()
    const reason = new Error('enough')
    const aborted = client.execute('query-status', {}, { signal: controller.signal })
    controller.abort(reason)
    await expect(aborted).rejects.toBe(reason)
    await expect(client.execute('query-status', {}, { signal: controller.signal })).rejects.toBe(reason)
    await expect(client.waitForEvent(() => true, { signal: controller.signal })).rejects.toBe(reason)
    machine.signal('SIGCONT')
    expect(await client.execute('query-name')).toEqual({ name: 'machine' })
  })
})

/** A server that gives every client what `talk` says. */
async function fake(talk: (socket: Socket) => void): Promise<string> {
  const path = join(temporaryFolder(), 'fake.qmp')
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    talk(socket)
  })
  await new Promise<void>((resolve) => server.listen(path, resolve))
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return path
}

/** Greets, agrees to the capabilities, and lets `answer` do the rest. */
function answering(answer: (socket: Socket, id: number) => void): (socket: Socket) => void {
  return (socket) => {
    socket.write(`${greeting}\r\n`)
    socket.on('data', (bytes) => {
      for (const line of bytes.toString().split('\n').filter(Boolean)) {
        const { execute, id } = JSON.parse(line) as { execute: string; id: number }
        if (execute === 'qmp_capabilities') socket.write(`{"return": {}, "id": ${id}}\r\n`)
        else answer(socket, id)
      }
    })
  }
}

describe('QMP with hostile peers', () => {
  it.each([
    ['hangs up at once', (socket: Socket) => socket.end()],
    ['speaks something else', (socket: Socket) => socket.write('220 mail ESMTP\r\n')],
    ['sends JSON that is no QMP', (socket: Socket) => socket.write('[1, 2]\n')],
    ['greets without a version', (socket: Socket) => socket.write('{"QMP": {}}\n')],
    ['hangs up in the middle of its greeting', (socket: Socket) => socket.end(greeting.slice(0, 30))],
    ['greets and hangs up', (socket: Socket) => socket.end(`${greeting}\n`)],
  ])('that %s', async (_, talk) => {
    const path = await fake((socket) => void talk(socket))
    await expect(connectQmp(path)).rejects.toMatchObject({ code: 'tracker' })
  })

  it.each([
    ['hangs up', (socket: Socket) => socket.end()],
    ['answers half', (socket: Socket, id: number) => socket.end(`{"return": {"a": 1}, "id": ${id}`)],
    ['sends garbage', (socket: Socket) => socket.write('\0\0\0\n')],
    ['complains without an ID', (socket: Socket) => socket.write('{"error": {"class": "GenericError", "desc": "?"}}\n')],
    ['sends an error without a text', (socket: Socket, id: number) => socket.write(`{"error": {}, "id": ${id}}\n`)],
  ])('that %s in the middle of a command', async (_, answer) => {
    const client = await connected(await fake(answering((socket, id) => void answer(socket, id))))
    await expect(client.execute('query-block')).rejects.toMatchObject({ code: 'tracker' })
    expect(client.lost).toBe(true)
  })

  it('takes answers in any order, in pieces, with events and unknown IDs between them', async () => {
    const asked: number[] = []
    const path = await fake(
      answering((socket, id) => {
        asked.push(id)
        if (asked.length < 2) return
        const [first, second] = asked
        const text =
          `{"event": "X", "data": {"n": 1}}\r\n{"return": 2, "id": ${second}}\r\n{"return": 0, "id": 999}\r\n` +
          `{"event": "Ä"}\r\n{"return": 1, "id": ${first}}\r\n`
        for (const byte of Buffer.from(text)) socket.write(Buffer.of(byte))
      }),
    )
    const client = await connected(path)
    const event = client.waitForEvent(({ event: name }) => name === 'Ä')
    expect(await Promise.all([client.execute('a'), client.execute('b')])).toEqual([1, 2])
    expect(await event).toEqual({ event: 'Ä', data: {} })
  })

  it('says what is wrong when nobody listens', async () => {
    const path = join(temporaryFolder(), 'nobody.qmp')
    await expect(connectQmp(path)).rejects.toMatchObject({ code: 'tracker', hint: expect.stringContaining('running') })
  })
})
