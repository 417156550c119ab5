// Copies as the command does, and is killed just before the Nth change of the target: node copy-kill.mjs FROM TO MACHINE N
import { buildEnvironment, buildRepository } from '../../dist/compose.js'
import { copyMachine } from '../../dist/operations/copy/copy-machine.js'

const [, , fromPath, toPath, machine, limit] = process.argv
let left = Number(limit)
const target = await buildRepository({ path: toPath })
const killing = new Proxy(target, {
  get(repository, key) {
    const method = Reflect.get(repository, key)
    if (typeof method !== 'function') return method
    return (...args) => {
      if (['put', 'claim', 'remove'].includes(key)) {
        left -= 1
        if (left === 0) process.kill(process.pid, 'SIGKILL')
      }
      return method.apply(repository, args)
    }
  },
})
const settings = { workers: 1, memoryBytes: 8 << 20, command: 'a copy that is killed' }
const source = await buildEnvironment(await buildRepository({ path: fromPath }), settings)
const { repositoryId } = await buildEnvironment(target, settings)
await copyMachine(
  {
    from: { repository: source.repository, repositoryId: source.repositoryId },
    to: { repository: killing, repositoryId },
    command: settings.command,
    agent: source.agent,
  },
  { machine, choose: (points) => new Set(points.map(({ point }) => point)) },
  { signal: new AbortController().signal },
)
