import { RefpointError } from '../../dist/model/errors.js'

/** What a call throws when the process that made it is gone. */
export class Killed extends Error {}

const changing = ['put', 'claim', 'remove', 'sweep']

/**
 * A repository to which bad things happen. `bad.killAfter`: so many calls that change something go well; at the next
 * one, half done or not, the process is gone, and nothing that it does after that reaches the repository. `bad.full`:
 * archives find the target full.
 */
export function createFaultyRepository(repository, bad, dice) {
  const alive = (run) => {
    if (run !== bad.run) throw new Killed('killed')
  }
  return function openAs(run) {
    const faulty = { description: repository.description }
    for (const name of ['read', 'locate', 'stat', 'children', 'room', ...changing]) {
      faulty[name] = async (...args) => {
        alive(run)
        if (!changing.includes(name)) return await repository[name](...args)
        if (bad.full && name === 'put' && String(args[0]).includes('/archives/')) {
          throw new RefpointError('io', "can't write: no space left on device (ENOSPC)", { fields: { code: 'ENOSPC' } })
        }
        if (bad.killAfter !== undefined && bad.killAfter-- <= 0) {
          // The kernel may have done it, and nobody heard of it.
          if (dice.chance(0.5)) await repository[name](...args)
          bad.run = undefined
          bad.killAfter = undefined
          throw new Killed('killed')
        }
        const result = await repository[name](...args)
        alive(run)
        return result
      }
    }
    faulty.list = async function* (prefix) {
      alive(run)
      for await (const info of repository.list(prefix)) {
        alive(run)
        yield info
      }
    }
    return faulty
  }
}
