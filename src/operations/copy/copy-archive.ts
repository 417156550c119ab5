import { createHash } from 'node:crypto'
import { openRanges } from '../../archive/range-reader.js'
import { RefpointError } from '../../model/errors.js'
import type { ObjectLocation } from '../../model/location.js'
import type { PointManifest } from '../../model/manifest.js'
import type { WriteRepository } from '../../repository/repository.js'

const PIECE_BYTES = 1024 * 1024

export interface CopyArchiveInput {
  readonly point: PointManifest
  readonly from: ObjectLocation
  readonly repository: WriteRepository
  /** What it is named there; used for this once. */
  readonly name: string
  readonly signal: AbortSignal
  readonly onBytes: (bytes: number) => void
}

/**
 * Copies one archive, and proves on the way that it is what its manifest says; durable when this resolves.
 * @throws RefpointError `damaged` when it can't be read or is not what was written: nothing is left of it there.
 */
export async function copyArchive({ point, from, repository, name, signal, onBytes }: CopyArchiveInput): Promise<void> {
  await repository.put(name, proven(point, from, onBytes), { signal })
}

async function* proven(
  point: PointManifest,
  from: ObjectLocation,
  onBytes: (bytes: number) => void,
): AsyncGenerator<Uint8Array> {
  const hash = createHash('sha256')
  const ranges = await openRanges(from).catch((cause: unknown) => {
    throw unreadable(point, cause)
  })
  try {
    const read = (offset: number): Promise<Uint8Array> => {
      const piece = ranges.read(offset, Math.min(PIECE_BYTES, from.bytes - offset))
      piece.catch(() => {})
      return piece
    }
    let next = read(0)
    for (let offset = 0; offset < from.bytes; offset += PIECE_BYTES) {
      const piece = await next.catch((cause: unknown) => {
        throw unreadable(point, cause)
      })
      if (offset + PIECE_BYTES < from.bytes) next = read(offset + PIECE_BYTES)
      hash.update(piece)
      onBytes(piece.length)
      yield piece
    }
  } finally {
    await ranges.close()
  }
  if (hash.digest('hex') !== point.archive.sha256) throw damaged(point, "is not what was written (SHA-256 differs)")
}

function unreadable(point: PointManifest, cause: unknown): RefpointError {
  return damaged(point, `can't be read: ${cause instanceof Error ? cause.message : String(cause)}`, cause)
}

function damaged({ machine, point, archive }: PointManifest, what: string, cause?: unknown): RefpointError {
  return new RefpointError('damaged', `the archive of point #${point} of machine '${machine}' ${what}: ${archive.name}`, {
    fields: { machine, point, archive: archive.name },
    ...(cause === undefined ? {} : { cause }),
  })
}
