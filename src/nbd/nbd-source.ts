import { RefpointError } from '../model/errors.js'
import type { NbdSource, SourceReader } from '../model/source.js'
import { connectNbd } from './client.js'

/** A read is cut into requests of this size, all in flight at once, so that the server works while bytes travel. */
const requestBytes = 256 * 1024

/**
 * Opens a reader of an NBD export with a connection of its own, for one thread. What lies past the export's end, or
 * past `sizeBytes`, is zeroes.
 * @throws RefpointError `tracker` when there is no such export, or the connection is lost.
 */
export async function openNbdSource(source: NbdSource): Promise<SourceReader> {
  const client = await connectNbd({ path: source.path }, { exportName: source.exportName })
  const endBytes = Math.min(source.sizeBytes, client.sizeBytes)
  return {
    async read(into, offset) {
      const wanted = Math.max(0, Math.min(into.length, endBytes - offset))
      const parts: Promise<void>[] = []
      for (let at = 0; at < wanted; at += requestBytes) {
        parts.push(client.read(into.subarray(at, Math.min(wanted, at + requestBytes)), offset + at))
      }
      await settled(parts, source)
      into.fill(0, wanted)
    },
    close: () => client.disconnect(),
  }
}

/** Every part has to settle before the caller's buffer is the caller's again. */
async function settled(parts: readonly Promise<void>[], source: NbdSource): Promise<void> {
  const failed = (await Promise.allSettled(parts)).find((result) => result.status === 'rejected')
  if (failed === undefined) return
  const cause: unknown = failed.reason
  if (!(cause instanceof RefpointError && 'error' in cause.fields)) throw cause
  throw new RefpointError('tracker', cause.message, {
    hint: source.refusalHint,
    cause,
    fields: { ...cause.fields, export: source.exportName },
  })
}
