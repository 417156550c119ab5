// One operation, stopped by its own hand just before a call of its repository, to be woken later:
// node lock-actor.mjs CONFIGURATION OPERATION [METHOD PATTERN NTH [AFTER]]
// With AFTER, calls count only once something of a name that matches it was claimed.
// Exits with 0, 11 (locked), 13 (damaged) or 1; prints "stopping" before it stops.
import { writeSync } from 'node:fs'
import { loadConfig } from '../../dist/config/load-config.js'
import { buildEnvironment, buildMachine, buildRepository } from '../../dist/compose.js'
import { backupMachine } from '../../dist/operations/backup/backup.js'
import { choosePoints } from '../../dist/operations/copy/choose-points.js'
import { copyMachine } from '../../dist/operations/copy/copy-machine.js'
import { listPoints } from '../../dist/operations/points.js'
import { holdPoint } from '../../dist/operations/prune/hold.js'
import { pruneMachine } from '../../dist/operations/prune/prune.js'
import { restorePoint } from '../../dist/operations/restore/restore.js'
import { verify } from '../../dist/operations/verify/verify.js'
import { openRepository } from '../../dist/repository/open.js'
import { whilePinned } from '../../dist/repository/pin.js'

const [, , path, operation, method, pattern, nth, after] = process.argv
const machine = 'web01'
const ttlMs = 1500
const signal = new AbortController().signal

let calls = 0
let counting = after === undefined
function watched(repository) {
  const wrapped = Object.create(repository)
  for (const name of ['read', 'locate', 'stat', 'list', 'children', 'put', 'claim', 'sweep', 'remove', 'room']) {
    wrapped[name] = (...args) => {
      if (counting && name === method && new RegExp(pattern).test(args[0]) && ++calls === Number(nth)) {
        writeSync(1, 'stopping\n')
        process.kill(process.pid, 'SIGSTOP')
      }
      if (name === 'claim' && after !== undefined && new RegExp(after).test(args[0])) counting = true
      return repository[name](...args)
    }
  }
  Object.defineProperty(wrapped, 'description', { value: repository.description })
  return wrapped
}

const config = await loadConfig({ cwd: process.cwd(), env: {}, path })
const repository = watched(await buildRepository(config.repository))
const settings = { workers: 1, memoryBytes: config.memoryBytes, command: operation }
const environment = { ...(await buildEnvironment(repository, settings)), ttlMs }
const [configured] = config.machines

const operations = {
  backup: async () => {
    await backupMachine(environment, await buildMachine(configured), { request: 'auto', signal })
  },
  prune: async () => {
    const request = { machine, ...configured.keep, level: 1 }
    await pruneMachine(environment, request, { signal })
  },
  // Into `copy`: the calls that count are those on what is copied.
  copy: async () => {
    const to = await buildRepository({ path: `${process.cwd()}/copy` })
    const copying = {
      from: { repository, repositoryId: environment.repositoryId },
      to: { repository: to, repositoryId: (await openRepository(to)).id },
      command: operation,
      agent: environment.agent,
      ttlMs,
    }
    const choose = (points) => choosePoints(points, { kind: 'all' })
    const { damage } = await copyMachine(copying, { machine, choose }, { signal })
    if (damage.length > 0) throw Object.assign(new Error(JSON.stringify(damage)), { code: 'damaged' })
  },
  hold: async () => {
    await holdPoint(environment, machine, { when: { kind: 'point', point: 2 }, why: 'a test' }, signal)
  },
  restore: async () => {
    await whilePinned(repository, machine, { command: 'restore', ttlMs }, async () => {
      const [{ points }] = await listPoints(repository, machine)
      const point = points[1]
      const to = { folder: `${process.cwd()}/restored-by-actor` }
      await restorePoint(environment, { point, points, to, force: false, concurrentStores: 1 }, { signal })
      writeSync(1, `restored #${point.point}\n`)
    })
  },
  verify: async () => {
    const { findings } = await verify(environment, { machine, quick: false }, { signal })
    if (findings.length > 0) throw Object.assign(new Error(JSON.stringify(findings)), { code: 'damaged' })
  },
}
try {
  await operations[operation]()
} catch (error) {
  console.error(`${error.code}: ${error.message}`)
  process.exitCode = { locked: 11, damaged: 13 }[error.code] ?? 1
}
await environment.pool[Symbol.asyncDispose]()
if (method !== undefined && calls < Number(nth)) process.exitCode = 99
