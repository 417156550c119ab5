import type { ArchiveWriter } from '../archive/writer.js'
import type { ObjectRecord } from '../model/manifest.js'
import type { WriteRepository } from '../repository/repository.js'

export interface ArchiveJob<Result> {
  readonly repository: WriteRepository
  readonly name: string
  readonly writer: ArchiveWriter
  readonly signal: AbortSignal
  /**
   * Writes everything but the end. `stop` aborts when storing fails or the run is told to stop; `fail` tells of a first
   * failure while others are still at work.
   */
  readonly fill: (stop: AbortSignal, fail: (error: unknown) => void) => Promise<Result>
}

/**
 * Stores an archive while it is written; when this resolves it is durable. A failing target stops those who write it,
 * and failing writers the target; the first cause is the one that is thrown, and nothing is left then.
 */
export async function storeArchive<Result>(
  job: ArchiveJob<Result>,
): Promise<{ readonly archive: ObjectRecord; readonly result: Result }> {
  const { repository, name, writer, signal } = job
  const failed = new AbortController()
  const stop = AbortSignal.any([signal, failed.signal])
  const stored = repository.put(name, writer.output, { signal: stop })
  stored.catch((error: unknown) => {
    writer.abort(error)
    failed.abort(error)
  })
  let result: Result
  let sha256: string
  try {
    result = await job.fill(stop, (error) => failed.abort(error))
    sha256 = (await writer.finish()).sha256
  } catch (error) {
    const cause = failed.signal.aborted ? failed.signal.reason : signal.aborted ? signal.reason : error
    writer.abort(cause)
    failed.abort(cause)
    // A failing target is first heard of as a writer whose output nobody takes any more: what failed, storing tells.
    // Where something else failed first, storing ends with just that.
    await stored
    throw cause
  }
  const { bytes } = await stored
  return { archive: { name, bytes, sha256 }, result }
}
