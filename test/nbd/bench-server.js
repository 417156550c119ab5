/**
 * Serves one file: `node bench-server.js FILE SOCKET`, for bench.sh. A plain file behind the server, so that what is
 * measured is the protocol. SIGTERM ends it, and it says what it took.
 */
import { close, fdatasync, fstatSync, openSync, read, writev } from 'node:fs'
import { serveNbd } from '../../dist/nbd/server.js'

const [, , file = '', socket = ''] = process.argv
const fd = openSync(file, 'r+')
const settle = (resolve, reject) => (error) => (error ? reject(error) : resolve())
const backend = {
  sizeBytes: fstatSync(fd).size,
  readOnly: false,
  blockSizes: { minimum: 1, preferred: 4096, maximum: 32 * 1024 * 1024 },
  read: (into, offset) =>
    new Promise((resolve, reject) => read(fd, into, 0, into.length, offset, settle(resolve, reject))),
  write: (pieces, offset) => new Promise((resolve, reject) => writev(fd, pieces, offset, settle(resolve, reject))),
  zero: async (offset, length) => {
    const zeroes = Buffer.alloc(Math.min(length, 1024 * 1024))
    for (let at = 0; at < length; at += zeroes.length) {
      await backend.write([zeroes.subarray(0, Math.min(zeroes.length, length - at))], offset + at)
    }
  },
  trim: async () => {},
  flush: () => new Promise((resolve, reject) => fdatasync(fd, settle(resolve, reject))),
  contexts: [],
  openContext: async () => undefined,
}
const server = await serveNbd({ exports: new Map([['', backend]]), listen: { path: socket } })
console.log('ready')
process.once('SIGTERM', async () => {
  await server.close()
  close(fd)
  const { maxRSS, userCPUTime, systemCPUTime } = process.resourceUsage()
  const mib = (bytes) => `${Math.round(bytes / 1048576)} MiB`
  const cpu = `${(userCPUTime / 1e6).toFixed(2)} s user, ${(systemCPUTime / 1e6).toFixed(2)} s system`
  const memory = `at most ${mib(maxRSS * 1024)} resident, ${mib(server.peakBufferedBytes)} buffered`
  console.log(`refpoint server: ${cpu}, ${memory}`)
})
