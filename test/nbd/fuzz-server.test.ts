import { connect } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { connectNbd } from '../../src/nbd/client.js'
import { memoryBackend } from './memory-backend.js'
import { pattern, serve } from './programs.js'
import { mutate, printedRandom, type Random } from './random.js'
import { greet, option, optionGo, optionMeta, request, text, u32 } from './wire-bytes.js'

const mib = 1024 * 1024
const rounds = Number(process.env['REFPOINT_FUZZ_ROUNDS'] ?? 400)
const ceilingBytes = 40 * mib

const edges = [0, 1, 7, 511, 512, 4096, 65_535, 65_536, mib - 1, mib, 4 * mib, 32 * mib, 32 * mib + 1, 2 ** 31,
  2 ** 32 - 1] as const

function anyOption(random: Random): Buffer {
  const { int, pick, bytes, chance } = random
  const name = pick(['disk', '', 'other', 'd'.repeat(5000), 'nul\0'])
  return pick<() => Buffer>([
    () => option(pick([2, 3, 4, 5, 8, 8, 8, 11, 99, 2 ** 32 - 1])),
    () => option(int(13), bytes(int(64))),
    () => option(int(12), bytes(8), pick(edges)),
    () => optionGo(name, Array.from({ length: int(6) }, () => int(5))),
    () => optionMeta(pick([9, 10]), name, Array.from({ length: int(20) }, () =>
      pick(['base:allocation', 'base:', 'test:every:3', 'test:broken', 'nothing', ':', 'x-y:z', '']))),
    () => option(6, Buffer.concat([text(name), Buffer.of(255, 255), bytes(int(9))])),
    () => option(10, Buffer.concat([text('disk'), u32(pick(edges)), bytes(int(30))])),
    () => option(1, chance(0.5) ? Buffer.from('disk') : bytes(int(300))),
  ])()
}

function anyRequest(random: Random): Buffer {
  const { int, pick, bytes, chance } = random
  const type = chance(0.9) ? pick([0, 0, 1, 1, 3, 4, 6, 7]) : int(65_536)
  const length = chance(0.7) ? int(200_000) : pick(edges)
  const offset = chance(0.7) ? int(4 * mib) : pick([...edges, 4 * mib - 1, 2 ** 52, Number.MAX_SAFE_INTEGER])
  const header = request({
    type,
    length,
    offset,
    handle: int(2 ** 32),
    flags: chance(0.8) ? 0 : chance(0.8) ? 1 << int(6) : int(65_536),
    ...(chance(0.02) ? { magic: int(2 ** 32) } : {}),
  })
  if (type !== 1 || length > 300_000) return header
  return Buffer.concat([header, bytes(1), Buffer.alloc(Math.max(0, length - 1))])
}

/** What a client might send: mostly sense, so that the nonsense gets deep. */
function conversation(random: Random): Buffer {
  const { int, chance, bytes } = random
  if (chance(0.05)) return bytes(int(4000))
  const haggling = Array.from({ length: int(6) }, () => anyOption(random))
  const agreed = chance(0.6) ? [option(8), optionMeta(10, 'disk', ['base:allocation', 'test:every:2'])] : []
  const go = chance(0.9) ? [optionGo('disk')] : []
  const requests = Array.from({ length: int(30) }, () => anyRequest(random))
  const parts = [greet(chance(0.95) ? 3 : int(2 ** 32)), ...haggling, ...agreed, ...go, ...requests]
  const damaged = parts.map((part) => (chance(0.03) ? mutate(part, random) : part))
  const whole = Buffer.concat(damaged)
  return chance(0.1) ? mutate(whole, random) : whole
}

/** Sends it in pieces of any size, reads the answers or not, and leaves in one of the ways in which clients leave. */
async function attack(path: string, random: Random): Promise<void> {
  const { int, chance, pick } = random
  const socket = connect({ path })
  socket.on('error', () => {})
  const gone = new Promise<void>((resolve) => socket.once('close', () => resolve()))
  if (chance(0.7)) socket.resume()
  const bytes = conversation(random)
  const largest = pick([40, 1000, 100_000, 10_000_000])
  for (let at = 0; at < bytes.length && !socket.destroyed;) {
    const end = Math.min(bytes.length, Math.max(at + 1 + int(largest), at + Math.ceil(bytes.length / 200)))
    socket.write(bytes.subarray(at, end))
    at = end
    if (chance(0.3)) await new Promise(setImmediate)
  }
  if (chance(0.5)) socket.end()
  await Promise.race([gone, delay(int(60))])
  socket.destroy()
  await gone
}

it('survives whatever clients send, within its memory, and serves a good client afterwards', async () => {
  const random = printedRandom('fuzzing the server')
  const backend = memoryBackend(4 * mib)
  backend.before = (_, offset) => {
    if (offset % 97 === 0 && offset > 0) throw new Error('a bad sector')
  }
  const { server, path } = await serve(backend, { bufferedBytes: ceilingBytes, stallTimeoutMs: 200 })
  const heldAtStart = process.memoryUsage().arrayBuffers
  let most = 0
  await Promise.all(Array.from({ length: 8 }, async () => {
    for (let round = 0; round < rounds / 8; round++) {
      await attack(path, random)
      most = Math.max(most, server.bufferedBytes)
    }
  }))
  await expect.poll(() => server.connections, { timeout: 20_000 }).toBe(0)
  expect(server.bufferedBytes).toBe(0)
  expect(most).toBeLessThanOrEqual(server.peakBufferedBytes)
  expect(server.peakBufferedBytes).toBeLessThanOrEqual(ceilingBytes)
  expect(server.peakBufferedBytes).toBeGreaterThan(100_000)
  // The clients' own buffers live in this process too, until they are collected.
  expect(process.memoryUsage().arrayBuffers - heldAtStart).toBeLessThan(1024 * mib)

  backend.before = () => {}
  const client = await connectNbd({ path }, { exportName: 'disk', contexts: ['base:allocation'] })
  const content = pattern(3 * mib)
  await client.write(content, 512, { fua: true })
  const back = Buffer.alloc(content.length)
  await client.read(back, 512)
  expect(back.equals(content)).toBe(true)
  expect((await client.blockStatus(0, mib)).get('base:allocation')).toEqual([{ length: mib, flags: 0 }])
  await client.disconnect()
})
