import { ChangeIdExpired } from '../../src/model/errors.js'
import type { Range } from '../../src/model/extent.js'
import type { CheckpointStore, Tracker } from '../../src/trackers/tracker.js'

/** What a tracker says of one store instead of the truth; what is left out is as it is. */
export interface Lie {
  readonly changed?: readonly Range[]
  /** Tracking is said to be lost. */
  readonly expired?: boolean
  /** A range that is said to be guaranteed zeroes. */
  readonly zero?: Range
}

/** A real tracker, of whose words about some stores nothing is to be believed. */
export function lying(tracker: Tracker, lies: Readonly<Record<string, Lie>>): Tracker {
  return {
    ...tracker,
    async checkpoint(options) {
      const taken = await tracker.checkpoint(options)
      return {
        ...taken,
        time: taken.time,
        consistency: taken.consistency,
        warnings: taken.warnings,
        files: taken.files,
        assertStable: () => taken.assertStable(),
        [Symbol.asyncDispose]: () => taken[Symbol.asyncDispose](),
        stores: taken.stores.map((frozen) => bent(frozen, lies[frozen.name] ?? {})),
      }
    },
  }
}

function bent(frozen: CheckpointStore, { changed, zero, expired = false }: Lie): CheckpointStore {
  async function* pages(): AsyncGenerator<readonly Range[]> {
    if (changed !== undefined && changed.length > 0) yield changed
  }
  return {
    name: frozen.name,
    sizeBytes: frozen.sizeBytes,
    logicalBlockBytes: frozen.logicalBlockBytes,
    changeId: frozen.changeId,
    source: frozen.source,
    async *allocatedExtents(range, how) {
      const end = range.offset + range.length
      const from = Math.min(Math.max(zero?.offset ?? end, range.offset), end)
      const to = Math.max(Math.min((zero?.offset ?? end) + (zero?.length ?? 0), end), from)
      if (from > range.offset) yield* frozen.allocatedExtents({ offset: range.offset, length: from - range.offset }, how)
      if (to > from) yield [{ offset: from, length: to - from, kind: 'zero' }]
      if (end > to) yield* frozen.allocatedExtents({ offset: to, length: end - to }, how)
    },
    async changedExtents(since, how) {
      if (expired) throw new ChangeIdExpired('unknown', 'the liar took it away')
      const told = await frozen.changedExtents(since, how)
      return changed === undefined ? told : pages()
    },
  }
}
