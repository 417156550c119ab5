// A backup that kills itself, as kill -9 does, when a step is done: node kill-at-step.mjs CONFIGURATION MACHINE STEP
import { loadConfig } from '../../dist/config/load-config.js'
import { buildEnvironment, buildMachine, buildRepository } from '../../dist/compose.js'
import { backupMachine } from '../../dist/operations/backup/backup.js'

const [, , path, name, last] = process.argv
const config = await loadConfig({ cwd: process.cwd(), env: {}, path })
const machine = config.machines.find((candidate) => candidate.name === name)
const { workers, memoryBytes } = config
const repository = await buildRepository(config.repository)
const environment = await buildEnvironment(repository, { workers, memoryBytes, command: `kill at ${last}` })
await backupMachine(environment, await buildMachine(machine), {
  request: 'auto',
  signal: new AbortController().signal,
  onEvent: (event) => {
    if (event.type === 'step' && event.step === last) process.kill(process.pid, 'SIGKILL')
  },
})
console.error(`the run never came to ${last}`)
process.exit(1)
