import { RefpointError } from '../model/errors.js'

/** The error for an archive that is not what was written: names the archive, the part of it, and what disagreed. */
export function archiveDamage(archive: string, section: string, found: string, cause?: unknown): RefpointError {
  return new RefpointError('damaged', `archive ${archive} is damaged: ${section}: ${found}`, {
    hint: "Points that need this archive can not be restored in full. 'refpoint verify' names all that is affected.",
    cause,
    fields: { archive, section, found },
  })
}

/** What to say of an error's reason, in one line. */
export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
