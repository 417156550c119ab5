import { randomBytes, randomUUID } from 'node:crypto'
import { RefpointError } from '../model/errors.js'
import { encodeJson } from './json-object.js'
import { repositoryRecordName } from './layout.js'
import { openRepository, readRepositoryRecord, type RepositoryRecord } from './open.js'
import type { PruneRepository } from './repository.js'

export interface InitResult {
  readonly record: RepositoryRecord
  /** False when the repository was there already: nothing was changed then. */
  readonly created: boolean
}

/** What the try-out of exclusive creation leaves when it is killed. */
const probe = /^init-probe-[0-9a-f]{16}$/
/** What a new file system holds by itself. */
const harmless = ['lost+found']

/**
 * Makes a repository of an empty place. Harmless where there is one already.
 * @throws RefpointError `usage` for a place that holds something else, `io` where an object can't be created
 * exactly once, as every commit needs.
 */
export async function initRepository(repository: PruneRepository): Promise<InitResult> {
  const existing = await readRepositoryRecord(repository)
  if (existing !== undefined) return { record: existing, created: false }
  const names = (await repository.children('')).filter((name) => !harmless.includes(name))
  const foreign = names.filter((name) => !probe.test(name))
  if (foreign.length > 0) throw notEmpty(repository, foreign)
  await repository.remove(names)

  await tryExclusiveCreation(repository)
  const record: RepositoryRecord = {
    format: 1,
    id: randomUUID(),
    requires: [],
    optional: [],
    createdAt: new Date().toISOString(),
  }
  const outcome = await repository.claim(repositoryRecordName, encodeJson(record))
  if (outcome === 'created') return { record, created: true }
  return { record: await openRepository(repository), created: false }
}

/** Some storage answers "created" twice; better told now than when two runs commit the same point. */
async function tryExclusiveCreation(repository: PruneRepository): Promise<void> {
  const name = `init-probe-${randomBytes(8).toString('hex')}`
  const claims = [1, 2, 3].map((number) => repository.claim(name, encodeJson({ claim: number })))
  const outcomes = await Promise.allSettled(claims)
  const late = await Promise.allSettled([repository.claim(name, encodeJson({ claim: 'late' }))])
  await repository.remove([name]).catch(() => undefined)
  const all = [...outcomes, ...late]
  for (const outcome of all) if (outcome.status === 'rejected') throw outcome.reason
  const created = all.filter((outcome) => outcome.status === 'fulfilled' && outcome.value === 'created').length
  if (created === 1) return
  throw new RefpointError('io', `${repository.description} can't create an object exactly once (${created} of 4 did)`, {
    hint: 'Its file system does not keep two writers apart, so it can hold no repository. Choose another place.',
    fields: { repository: repository.description, created },
  })
}

function notEmpty(repository: PruneRepository, names: readonly string[]): RefpointError {
  const shown = names.slice(0, 3).join(', ') + (names.length > 3 ? ', …' : '')
  return new RefpointError('usage', `${repository.description} is neither empty nor a repository (it holds ${shown})`, {
    hint: 'Name a new or empty folder for the repository.',
    fields: { repository: repository.description, names: names.slice(0, 20) },
  })
}
