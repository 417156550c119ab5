import { randomUUID } from 'node:crypto'
import { RefpointError } from '../../model/errors.js'
import type { AuditManifest, FoldManifest, PointManifest } from '../../model/manifest.js'
import { inRanges, joinSlots, withoutSlots } from '../../model/slot-ranges.js'
import type { Manifests } from '../../repository/manifests.js'
import { foldFeature } from '../../repository/read-slot.js'

export interface FoldManifestInput {
  readonly slot: number
  readonly agent: string
  /** The history as it is. */
  readonly history: Manifests
  /** Points that go now. */
  readonly dropped: readonly number[]
  /** New manifests of points that stay. */
  readonly revisions: readonly PointManifest[]
}

/** What a prune claims its slot with: everything that all prunes up to this one have said, for it counts alone. */
export function foldManifest({ slot, agent, history, dropped, revisions }: FoldManifestInput): FoldManifest {
  const any = history.points[0] ?? revisions[0]
  if (any === undefined) throw new RangeError('a machine without points has nothing to fold')
  const { fold, audits } = history
  // Earlier folds have nothing more to say, either, nor have audits on which a later point goes on. A burnt slot has: it
  // keeps out a sleeper for as long as that sleeps.
  const spoken = audits.filter((audit) => isCarriedOn(audit, history.points, new Set(dropped)))
  const done = [...spoken, ...(fold === undefined ? [] : [fold])]
  const settled = done.map(({ point }) => point)
  // A copy may bring back what had gone.
  const back = revisions.map(({ point }) => point)
  const gone = withoutSlots(joinSlots(fold?.dropped ?? [], [...dropped, ...settled]), back)
  const counts = new Map(fold?.revisions)
  for (const { point } of revisions) counts.set(point, slot)
  return {
    format: 1,
    requires: [foldFeature],
    optional: [],
    type: 'fold',
    machine: any.machine,
    machineUuid: any.machineUuid,
    point: slot,
    nonce: randomUUID(),
    time: new Date().toISOString(),
    agent,
    dropped: gone,
    revisions: [...counts].filter(([point]) => !inRanges(gone, point)).sort(([a], [b]) => a - b),
  }
}

/** Whether points that stay have taken up what an audit said of every store. */
function isCarriedOn(audit: AuditManifest, points: readonly PointManifest[], dropped: ReadonlySet<number>): boolean {
  const later = points.filter(({ point }) => point > audit.point && !dropped.has(point))
  return audit.stores.every(({ name }) => later.some(({ stores }) => stores.some((store) => store.name === name)))
}

/**
 * Nothing may go while any manifest is lost or unreadable: what it names, and what it builds on, nobody knows.
 * @throws RefpointError `damaged`
 */
export function assertWhole(machine: string, { problems }: Manifests): void {
  const [first] = problems
  if (first === undefined) return
  const more = problems.length === 1 ? '' : ` (and ${problems.length - 1} more)`
  throw new RefpointError('damaged', `machine '${machine}' can't be pruned: ${first.message}${more}`, {
    hint: `Nothing was changed. 'refpoint verify ${machine}' tells everything that is damaged.`,
    fields: { machine, problems },
  })
}
