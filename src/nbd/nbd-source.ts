import { RefpointError } from '../model/errors.js'
import type { NbdSource, SourceReader } from '../model/source.js'
import { connectNbd, type NbdClient } from './client.js'

/*
 * A reader has several connections and one request in flight on each, no larger than what the system takes from a server
 * to be sent (208 KiB, by default): so the server can always send all that it was asked for, even when this process is
 * stopped in the middle. QEMU otherwise waits for it with its whole main loop, and the guest with that, as soon as
 * anything wants the disk to be idle.
 */
const requestBytes = 128 * 1024
const connections = 8

/**
 * Opens a reader of an NBD export with connections of its own, for one thread. What lies past the export's end, or
 * past `sizeBytes`, is zeroes.
 * @throws RefpointError `tracker` when there is no such export, or the connection is lost.
 */
export async function openNbdSource(source: NbdSource): Promise<SourceReader> {
  const connect = (): Promise<NbdClient> => connectNbd({ path: source.path }, { exportName: source.exportName })
  const first = await connect()
  const clients: Promise<NbdClient>[] = [Promise.resolve(first)]
  const endBytes = Math.min(source.sizeBytes, first.sizeBytes)
  return {
    async read(into, offset) {
      const wanted = Math.max(0, Math.min(into.length, endBytes - offset))
      let next = 0
      const take = async (lane: number): Promise<void> => {
        while (next < wanted) {
          const at = next
          next += requestBytes
          const client = await (clients[lane] ??= connect())
          await client.read(into.subarray(at, Math.min(wanted, at + requestBytes)), offset + at)
        }
      }
      const lanes = Math.min(connections, Math.ceil(wanted / requestBytes))
      await settled(Array.from({ length: lanes }, (_, lane) => take(lane)), source)
      into.fill(0, wanted)
    },
    async close() {
      const opened = await Promise.allSettled(clients)
      await Promise.all(opened.map(async (client) => client.status === 'fulfilled' && (await client.value.disconnect())))
    },
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
