import { createHash } from 'node:crypto'
import type { ObjectLocation } from '../../model/location.js'
import type { OpenFiles } from './open-files.js'

/** An object whose bytes are to be what its manifest says. */
export interface HashJob {
  readonly location: ObjectLocation
}

const STEP_BYTES = 1024 * 1024

/** The SHA-256 (hex) of an object as stored. */
export async function hashObject(job: HashJob, files: OpenFiles): Promise<string> {
  const hash = createHash('sha256')
  for (let at = 0; at < job.location.bytes; at += STEP_BYTES) {
    hash.update(files.readArchive(job.location, at, Math.min(STEP_BYTES, job.location.bytes - at)))
  }
  return hash.digest('hex')
}
