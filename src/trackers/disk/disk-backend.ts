import type { Native } from '../../files/native.js'
import { dataExtents } from '../../files/sparse.js'
import type { Backend, MetaContext, StatusRun } from '../../nbd/backend.js'
import { parseChangeId } from './change-id.js'
import type { Disk } from './disk.js'
import { readNonce } from './generations.js'
import { blocksPerRegion, regionOf } from './map-layout.js'

/** Status flags of `base:allocation`: a hole, and it reads as zeroes. */
const holeAndZero = 3
const changedPrefix = 'refpoint:changed:'
/** What one answer looks at, at most. */
const mostLookedAt = 1024 * 1024 * 1024

/**
 * A disk as an NBD export, with `base:allocation`, and `refpoint:changed:<change id>` for whoever asks: flag 1 where
 * something may have changed since that instant. Zeroing always frees space, asked to or not: no write to a disk with
 * overlays is sure of its space anyway.
 */
export function diskBackend(disk: Disk, native: Native | undefined): Backend {
  return {
    get sizeBytes() {
      return disk.sizeBytes
    },
    readOnly: false,
    blockSizes: { minimum: 1, preferred: 4096, maximum: 32 * 1024 * 1024 },
    read: (into, offset) => disk.read(into, offset),
    write: (pieces, offset) => disk.write(pieces, offset),
    zero: (offset, length) => disk.zero(offset, length),
    trim: (offset, length) => disk.trim(offset, length),
    flush: () => disk.flush(),
    contexts: [allocationContext(disk, native)],
    openContext: (name) => openChangedContext(disk, name),
  }
}

function allocationContext(disk: Disk, native: Native | undefined): MetaContext {
  return {
    name: 'base:allocation',
    async status(offset, length, maxRuns) {
      const runs = new Runs(maxRuns)
      const end = offset + Math.min(length, mostLookedAt)
      await disk.reading(async (stack) => {
        for (let at = offset; at < end && !runs.full; ) {
          const block = Math.floor(at / disk.blockBytes)
          const last = Math.min(Math.floor((end - 1) / disk.blockBytes), (regionOf(block) + 1) * blocksPerRegion - 1)
          for (const run of await stack.providers(block, last)) {
            const from = Math.max(at, run.first * disk.blockBytes)
            const to = Math.min(end, (run.last + 1) * disk.blockBytes)
            for (const page of dataExtents(run.layer.data.fd, { offset: from, length: to - from }, native)) {
              for (const extent of page) runs.add(extent.length, extent.kind === 'zero' ? holeAndZero : 0)
            }
          }
          at = (last + 1) * disk.blockBytes
        }
      })
      return runs.list
    },
  }
}

async function openChangedContext(disk: Disk, name: string): Promise<MetaContext | undefined> {
  if (!name.startsWith(changedPrefix)) return undefined
  const since = parseChangeId(name.slice(changedPrefix.length))
  if (since === undefined || since.uuid !== disk.file.uuid || since.generation >= disk.generation) return undefined
  if ((await readNonce(disk.files, disk.folder, since.generation)) !== since.nonce) return undefined
  return {
    name,
    async status(offset, length, maxRuns) {
      const runs = new Runs(maxRuns)
      const end = offset + Math.min(length, mostLookedAt)
      for (let at = offset; at < end && !runs.full; ) {
        const region = regionOf(Math.floor(at / disk.blockBytes))
        const to = Math.min(end, (region + 1) * blocksPerRegion * disk.blockBytes)
        await addChanged(disk, runs, { region, from: at, to, since: since.generation })
        at = to
      }
      return runs.list
    },
  }
}

async function addChanged(
  disk: Disk,
  runs: Runs,
  { region, from, to, since }: { region: number; from: number; to: number; since: number },
): Promise<void> {
  const pages = await disk.generations(region)
  for (let at = from; at < to; ) {
    const block = Math.floor(at / disk.blockBytes)
    const end = Math.min(to, (block + 1) * disk.blockBytes)
    const index = block - region * blocksPerRegion
    runs.add(end - at, pages.some((page) => (page[index] ?? 0) > since) ? 1 : 0)
    at = end
  }
}

/** Joins runs of the same flags; those past the limit are dropped, as the protocol allows. */
class Runs {
  readonly list: StatusRun[] = []
  readonly #max: number
  #overflowed = false

  constructor(max: number) {
    this.#max = max
  }

  get full(): boolean {
    return this.#overflowed
  }

  add(length: number, flags: number): void {
    const last = this.list.at(-1)
    if (this.#overflowed) return
    if (last?.flags === flags) this.list[this.list.length - 1] = { length: last.length + length, flags }
    else if (this.list.length < this.#max) this.list.push({ length, flags })
    else this.#overflowed = true
  }
}
