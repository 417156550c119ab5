import { z } from 'zod'
import { RefpointError } from '../model/errors.js'
import { decodeJson, parseObject } from './json-object.js'
import { repositoryRecordName } from './layout.js'
import type { ReadRepository } from './repository.js'

/** What a repository says of itself. */
export interface RepositoryRecord {
  readonly format: 1
  readonly id: string
  /** Features without which nothing here may be read or written. */
  readonly requires: readonly string[]
  readonly optional: readonly string[]
  /** ISO 8601, UTC. */
  readonly createdAt: string
}

const limitBytes = 64 * 1024
const features: readonly string[] = []
const formatSchema = z.looseObject({ format: z.int().positive() })
const recordSchema = z.object({
  format: z.literal(1),
  id: z.uuid(),
  requires: z.array(z.string()),
  optional: z.array(z.string()),
  createdAt: z.iso.datetime(),
})

/**
 * Reads what the repository is.
 * @throws RefpointError `no-repository` when there is none, or one that this version can't use; `damaged`.
 */
export async function openRepository(repository: ReadRepository): Promise<RepositoryRecord> {
  const record = await readRepositoryRecord(repository)
  if (record !== undefined) return record
  throw new RefpointError('no-repository', `there is no repository at ${repository.description}`, {
    hint: "Check the path, and that its disk is mounted; 'refpoint init' creates a new repository.",
    fields: { repository: repository.description },
  })
}

/** The same, but undefined where there is none. */
export async function readRepositoryRecord(repository: ReadRepository): Promise<RepositoryRecord | undefined> {
  const bytes = await repository.read(repositoryRecordName, limitBytes)
  if (bytes === undefined) return undefined
  const value = decodeJson(repositoryRecordName, bytes)
  const { format } = parseObject(repositoryRecordName, formatSchema, value)
  if (format > 1) throw tooNew(repository, `has format ${format}, this version knows format 1`, { format })
  const record = parseObject(repositoryRecordName, recordSchema, value)
  const unknown = record.requires.filter((feature) => !features.includes(feature))
  if (unknown.length === 0) return record
  throw tooNew(repository, `requires what this version does not know: ${unknown.join(', ')}`, { requires: unknown })
}

function tooNew(repository: ReadRepository, what: string, fields: Record<string, unknown>): RefpointError {
  return new RefpointError('no-repository', `the repository at ${repository.description} ${what}`, {
    hint: 'Use a newer refpoint for this repository.',
    fields: { repository: repository.description, ...fields },
  })
}
