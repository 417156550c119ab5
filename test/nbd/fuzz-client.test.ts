import { connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { connectNbd, listNbdExports } from '../../src/nbd/client.js'
import { RefpointError } from '../../src/model/errors.js'
import { temporaryFolder } from '../temporary.js'
import { memoryBackend } from './memory-backend.js'
import { serve } from './programs.js'
import { mutate, printedRandom } from './random.js'
import { u32 } from './wire-bytes.js'

const mib = 1024 * 1024
const rounds = Number(process.env['REFPOINT_FUZZ_ROUNDS'] ?? 400)

/** A server that does to each client what `talk` says. */
async function fake(talk: (socket: Socket) => void): Promise<string> {
  const path = join(temporaryFolder(), 'fake.sock')
  const sockets = new Set<Socket>()
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    socket.on('close', () => sockets.delete(socket))
    talk(socket)
  })
  await new Promise<void>((resolve) => server.listen(path, resolve))
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy()
    return new Promise<void>((resolve) => server.close(() => resolve()))
  })
  return path
}

const greeting = Buffer.concat([Buffer.from('NBDMAGICIHAVEOPT'), Buffer.of(0, 3)])
const optionReply = (option: number, type: number, data = Buffer.alloc(0)): Buffer =>
  Buffer.concat([Buffer.from('0003e889045565a9', 'hex'), u32(option), u32(type), u32(data.length), data])
const exported = Buffer.concat([Buffer.alloc(6), Buffer.of(0, 16, 0, 0), Buffer.of(1, 0x6d)])
const agreed = Buffer.concat([greeting, optionReply(8, 1), optionReply(7, 3, exported), optionReply(7, 1)])
const chunkHeader = (type: number, length: number, handle = 1, flags = 1): Buffer =>
  Buffer.concat([u32(0x668e33ef), Buffer.of(0, flags, type >> 8, type & 255), u32(0), u32(handle), u32(length)])

/** Answers a whole handshake at once when the client speaks, and the first request with `reply`. */
function replying(reply: (socket: Socket) => void): (socket: Socket) => void {
  return (socket) => {
    let requested = false
    let replied = 0
    const replies = [agreed.subarray(18, 38), agreed.subarray(38)]
    socket.write(greeting)
    socket.on('data', (bytes) => {
      for (let at = bytes.indexOf('IHAVEOPT'); at >= 0; at = bytes.indexOf('IHAVEOPT', at + 1)) {
        socket.write(replies[replied++] ?? Buffer.alloc(0))
      }
      if (requested || bytes.indexOf(Buffer.from('25609513', 'hex')) < 0) return
      requested = true
      reply(socket)
    })
  }
}

describe('the client and hostile servers', () => {
  const broken: readonly (readonly [string, RegExp, (socket: Socket) => void])[] = [
    ['bad magic', /not an NBD server/, (socket) => void socket.write('HTTP/1.1 400 Bad Request\r\n\r\n')],
    ['silence', /handshake took more than/, () => {}],
    ['half a greeting and a half close', /closed the connection/, (socket) => void socket.end('NBDMAGIC')],
    ['endless replies to an option', /more than 10000 replies/, (socket) => {
      socket.write(greeting)
      const many = Buffer.concat(Array.from({ length: 500 }, () => optionReply(8, 2, Buffer.alloc(20))))
      const more = (): void => void (!socket.destroyed && socket.write(many, more))
      more()
      socket.resume()
    }],
    ['a reply of gigabytes', /reply of 4294967295 bytes/, (socket) => {
      socket.write(Buffer.concat([greeting, optionReply(8, 1).subarray(0, 16), u32(2 ** 32 - 1)]))
      socket.resume()
    }],
    ['a wrong handle', /was not sent/, replying((socket) => socket.write(chunkHeader(0, 0, 77)))],
    ['an oversize chunk', /nobody asked for/, replying((socket) => {
      socket.write(Buffer.concat([chunkHeader(1, 2 ** 31), Buffer.alloc(8)]))
    })],
    ['bytes twice', /came twice/, replying((socket) => {
      const twice = Buffer.concat([chunkHeader(1, 8 + 512, 1, 0), Buffer.alloc(8 + 512)])
      socket.write(Buffer.concat([twice, twice]))
    })],
    ['success without the bytes', /without all of its bytes/, replying((socket) => socket.write(chunkHeader(0, 0)))],
    ['a simple reply to a read', /agreed to a structured one/, replying((socket) => {
      socket.write(Buffer.concat([Buffer.from('67446698', 'hex'), u32(0), u32(0), u32(1)]))
    })],
    ['a huge error', /an error of/, replying((socket) => socket.write(chunkHeader(0x8001, 2 ** 30)))],
    ['half a reply and a half close', /closed the connection/, replying((socket) => {
      socket.end(chunkHeader(1, 8 + 4096).subarray(0, 15))
    })],
    ['no answer', /no answer within/, replying(() => {})],
  ]
  it.each(broken)('says what is wrong: %s', async (_, message, talk) => {
    const path = await fake(talk)
    const trying = (async () => {
      const client = await connectNbd({ path }, { handshakeTimeoutMs: 5000, replyTimeoutMs: 300 })
      await client.read(Buffer.alloc(4096), 0)
    })()
    const error = await trying.then(() => undefined, (reason: unknown) => reason)
    expect(error).toBeInstanceOf(RefpointError)
    expect(error).toMatchObject({ code: 'tracker', message: expect.stringMatching(message) })
  })

  it('never hangs, crashes or grows on damaged replies', async () => {
    const random = printedRandom('fuzzing the client')
    const { int, chance } = random
    const backend = memoryBackend(4 * mib)
    await backend.write([random.bytes(200_000)], 100_000)
    const { path: real } = await serve(backend)
    const path = await fake((socket) => {
      const upstream = connect({ path: real })
      upstream.on('error', () => {})
      socket.on('close', () => upstream.destroy())
      upstream.on('close', () => socket.end())
      socket.pipe(upstream)
      let healthy = int(40)
      upstream.on('data', (bytes: Buffer) => {
        const sent = healthy-- > 0 || chance(0.4) ? bytes : mutate(bytes, random)
        if (!chance(0.01)) socket.write(sent)
        if (chance(0.01)) socket.end()
      })
    })
    let answered = 0
    let failed = 0
    const attempt = async (): Promise<void> => {
      const options = { handshakeTimeoutMs: 150, replyTimeoutMs: 100, contexts: ['base:allocation', 'test:written'] }
      await listNbdExports({ path }, options).catch(assertTold)
      const client = await connectNbd({ path }, options)
      const results = await Promise.allSettled([
        client.read(Buffer.alloc(int(300_000)), int(mib)),
        client.read(Buffer.alloc(512), int(mib)),
        client.write(random.bytes(int(5000)), int(mib)),
        client.zero(int(mib), int(mib)),
        client.blockStatus(0, 4 * mib),
        client.flush(),
      ])
      for (const result of results) {
        if (result.status === 'rejected') assertTold(result.reason)
        else answered++
      }
      await client.disconnect()
    }
    const assertTold = (reason: unknown): void => {
      expect(reason).toBeInstanceOf(RefpointError)
      expect(reason).toMatchObject({ code: 'tracker' })
      failed++
    }
    const before = process.memoryUsage().arrayBuffers
    await Promise.all(Array.from({ length: 8 }, async () => {
      for (let round = 0; round < rounds / 8; round++) await attempt().catch(assertTold)
    }))
    expect(answered).toBeGreaterThan(0)
    expect(failed).toBeGreaterThan(0)
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(512 * mib)
  })
})
