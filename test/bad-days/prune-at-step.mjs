// A prune that sends itself a signal when a step is done, or at the first event of a type:
// node prune-at-step.mjs CONFIGURATION MACHINE STEP SIGNAL
import { loadConfig } from '../../dist/config/load-config.js'
import { buildEnvironment, buildRepository } from '../../dist/compose.js'
import { pruneMachine } from '../../dist/operations/prune/prune.js'

const [, , path, name, last, signal] = process.argv
const config = await loadConfig({ cwd: process.cwd(), env: {}, path })
const { keep } = config.machines.find((candidate) => candidate.name === name)
const { workers, memoryBytes } = config
const repository = await buildRepository(config.repository)
const environment = await buildEnvironment(repository, { workers, memoryBytes, command: `${signal} at ${last}` })
let sent = false
const request = { machine: name, ...keep, level: 1 }
try {
  await pruneMachine(environment, request, {
    signal: new AbortController().signal,
    onEvent: (event) => {
      if (sent || (event.type === 'step' ? event.step : event.type) !== last) return
      sent = true
      process.kill(process.pid, signal)
    },
  })
} catch (error) {
  console.error(`${error.code}: ${error.message}`)
  process.exitCode = error.code === 'locked' ? 11 : 1
}
await environment.pool[Symbol.asyncDispose]()
if (!sent) process.exitCode = 99
