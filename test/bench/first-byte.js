/*
 * node first-byte.js <repository> <folder>: begins to restore the newest point, and ends when 2 GiB of it are there.
 * Prints the seconds from the start of the process to the first restored byte, and the peak of its memory.
 */
import { rm } from 'node:fs/promises'
import { buildRepository, listPoints, openEnvironment, restorePoint } from '../../dist/index.js'

const [, , path, folder] = process.argv
const enough = new AbortController()
const enoughBytes = 2 * 2 ** 30
let restored = 0
let firstMs

const environment = await openEnvironment(await buildRepository({ path }), { command: 'bench' })
const [history] = await listPoints(environment.repository, 'bench')
const request = { point: history.points.at(-1), points: history.points, to: { folder }, force: true, concurrentStores: 1 }
try {
  await restorePoint(environment, request, {
    signal: enough.signal,
    onBytes(bytes) {
      firstMs ??= performance.now()
      restored += bytes
      if (restored >= enoughBytes) enough.abort(new Error('enough'))
    },
  })
} catch (error) {
  if (!enough.signal.aborted) throw error
}
await environment[Symbol.asyncDispose]()
await rm(folder, { recursive: true, force: true })
console.log(JSON.stringify({ seconds: firstMs / 1000, peakBytes: process.resourceUsage().maxRSS * 1024 }))
