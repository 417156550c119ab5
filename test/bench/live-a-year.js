/*
 * node live-a-year.js <image> <repository> <days> <bytes>
 *
 * A disk that is backed up every day and pruned every night: a hot set, a log, a large file now and then, trims.
 */
import { buildEnvironment } from '../../dist/compose.js'
import { buildRepository, initRepository } from '../../dist/index.js'
import { backupMachine } from '../../dist/operations/backup/backup.js'
import { pruneMachine } from '../../dist/operations/prune/prune.js'
import { Disk } from '../soak/disk.js'
import { createDice } from '../soak/random.js'
import { createSimulatedTracker } from '../soak/tracker.js'

const [, , path, folder, ...numbers] = process.argv
const [days, bytes] = numbers.map(Number)
const dice = createDice(1)
const mebibyte = 2 ** 20
const rules = { last: 7, daily: 14, weekly: 8, monthly: 12, yearly: 5 }
const { signal } = new AbortController()

const repository = await buildRepository({ path: folder }, { create: true })
await initRepository(repository)
const environment = await buildEnvironment(repository, { workers: 'auto', memoryBytes: 64 * mebibyte, command: 'bench' })
const disk = new Disk('root', path, bytes, dice)
for (let at = 0; at < bytes * 0.8; at += mebibyte) disk.write(at, dice.fill(Buffer.alloc(mebibyte)))
let day = 0
const clock = { now: () => Date.UTC(2025, 0, 1, 3) + day * 86_400_000 }
for (; day < days; day += 1) {
  const hot = bytes / 20
  for (let n = 0; n < 200; n += 1) disk.write(Math.floor(dice.below(hot) / 4096) * 4096, dice.fill(Buffer.alloc(8192)))
  for (let n = 0; n < 3; n += 1) {
    const at = Math.floor(dice.below(bytes - mebibyte) / 4096) * 4096
    if (dice.chance(0.2)) disk.zero(at, mebibyte)
    else disk.write(at, dice.fill(Buffer.alloc(mebibyte)))
  }
  const { tracker } = createSimulatedTracker([disk], clock, {})
  const machine = { name: 'bench', trackerName: 'bench', tracker, files: {}, level: 1, concurrentStores: 1, audit: { bytes: 0, milliseconds: 0 } }
  await backupMachine(environment, machine, { request: 'auto', signal })
  disk.committed([])
  await pruneMachine(environment, { machine: 'bench', rules, zone: 'UTC', level: 1 }, { signal })
}
await environment.pool[Symbol.asyncDispose]()
