import { RefpointError } from '../../model/errors.js'
import type { Extent, Range } from '../../model/extent.js'
import type { StatusRun } from '../../nbd/backend.js'
import type { NbdClient } from '../../nbd/client.js'

/** NBD_STATE_ZERO of `base:allocation`: the bytes read as zeroes, guaranteed. A mere hole may hold anything. */
const stateZero = 0b10
/** NBD_STATE_HOLE: nothing is allocated here; in an image above another one, what is below shows. */
const stateHole = 0b01
/** Bit 0 of QEMU's `qemu:dirty-bitmap:…`. */
const dirty = 0b1

export const allocationContext = 'base:allocation'

/** The meta context in which QEMU exports a bitmap. */
export function dirtyBitmapContext(bitmap: string): string {
  return `qemu:dirty-bitmap:${bitmap}`
}

interface PagingOptions {
  readonly signal: AbortSignal
}

/**
 * What a dirty bitmap marks of the export's first `sizeBytes`, one page for each reply of the server; ascending, and
 * joined within a page. The client must have agreed on `context`.
 * @throws RefpointError `tracker` when the server does not tell, and the signal's reason.
 */
export async function* dirtyRanges(
  client: NbdClient,
  context: string,
  sizeBytes: number,
  { signal }: PagingOptions,
): AsyncGenerator<readonly Range[]> {
  for await (const { offset, runs } of statusPages(client, context, { offset: 0, length: sizeBytes }, signal)) {
    const page: { offset: number; length: number }[] = []
    let at = offset
    for (const { flags, length } of runs) {
      const last = page.at(-1)
      if ((flags & dirty) !== 0) {
        if (last !== undefined && last.offset + last.length === at) last.length += length
        else page.push({ offset: at, length })
      }
      at += length
    }
    if (page.length > 0) yield page
  }
}

interface AllocationOptions extends PagingOptions {
  /**
   * An export of the image below, which does not change: what the first one does not hold itself is there, and past its
   * end there are zeroes. Without it, what is not held is read.
   */
  readonly below?: NbdClient | undefined
}

/**
 * Covers `range` without gaps: `zero` where the server guarantees zeroes, `data` everywhere else, where the server has
 * no `base:allocation` too. What lies past the export's end is not asked for.
 * @throws RefpointError `tracker` when the server fails, and the signal's reason.
 */
export async function* allocation(
  client: NbdClient,
  range: Range,
  { signal, below }: AllocationOptions,
): AsyncGenerator<readonly Extent[]> {
  if (!client.contexts.includes(allocationContext)) {
    yield [{ ...range, kind: 'data' }]
    return
  }
  for await (const { offset, runs } of statusPages(client, allocationContext, range, signal)) {
    const page = new ExtentPage(offset)
    for (const { flags, length } of runs) {
      if (below === undefined || (flags & (stateHole | stateZero)) !== stateHole) {
        page.add(length, (flags & stateZero) === 0 ? 'data' : 'zero')
        continue
      }
      const held = Math.max(0, Math.min(length, below.sizeBytes - page.end))
      if (held > 0) {
        for await (const extents of allocation(below, { offset: page.end, length: held }, { signal })) {
          for (const extent of extents) page.add(extent.length, extent.kind)
        }
      }
      page.add(length - held, 'zero')
    }
    yield page.extents
  }
}

/** Consecutive extents, joined where they can be. */
class ExtentPage {
  readonly extents: { offset: number; length: number; kind: Extent['kind'] }[] = []
  end: number

  constructor(offset: number) {
    this.end = offset
  }

  add(length: number, kind: Extent['kind']): void {
    if (length === 0) return
    const last = this.extents.at(-1)
    if (last?.kind === kind) last.length += length
    else this.extents.push({ offset: this.end, length, kind })
    this.end += length
  }
}

/*
 * A reply that its server can't get rid of, since this process is stopped, holds up QEMU and with it the guest. So a
 * range is asked for only so large that its reply, 8 bytes for each change within it, most likely fits into the socket's
 * buffer (208 KiB, by default): small at first, then by what the last reply was like.
 */
const firstRangeBytes = 128 * 1024 * 1024
/** The protocol's largest. */
const largestRangeBytes = 4095 * 1024 * 1024
const fewRuns = 2_000
const manyRuns = 16_000

async function* statusPages(
  client: NbdClient,
  context: string,
  { offset, length }: Range,
  signal: AbortSignal,
): AsyncGenerator<{ readonly offset: number; readonly runs: readonly StatusRun[] }> {
  const end = offset + length
  let rangeBytes = firstRangeBytes
  for (let at = offset; at < end;) {
    signal.throwIfAborted()
    const runs = (await client.blockStatus(at, Math.min(rangeBytes, end - at))).get(context)
    const told = runs?.reduce((sum, run) => sum + run.length, 0) ?? 0
    if (runs === undefined || told === 0) {
      throw new RefpointError('tracker', `the NBD server does not tell '${context}' at byte ${at}`, {
        fields: { context, offset: at },
      })
    }
    yield { offset: at, runs }
    at += told
    if (runs.length < fewRuns) rangeBytes = Math.min(rangeBytes * 8, largestRangeBytes)
    else if (runs.length > manyRuns) rangeBytes = firstRangeBytes
  }
  signal.throwIfAborted()
}
