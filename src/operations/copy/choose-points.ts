import type { PointManifest } from '../../model/manifest.js'
import { chooseKept, type KeepRules } from '../../model/retention.js'
import { offsetMinutesIn } from '../prune/zone.js'

/** Which points somebody wants in a copy. */
export type CopyChoice =
  | { readonly kind: 'all' }
  | { readonly kind: 'last'; readonly count: number }
  /** What a prune by these rules would keep; `zone` as there. */
  | { readonly kind: 'rules'; readonly rules: KeepRules; readonly zone: string | undefined }

/** @param points by slot. */
export function choosePoints(points: readonly PointManifest[], choice: CopyChoice): ReadonlySet<number> {
  switch (choice.kind) {
    case 'all':
      return new Set(points.map(({ point }) => point))
    case 'last':
      return new Set(points.slice(-choice.count).map(({ point }) => point))
    case 'rules': {
      const kept = chooseKept({
        rules: choice.rules,
        points: points.map(({ point, time }) => ({ point, timeMs: Date.parse(time), damaged: false, held: false })),
        offsetMinutes: offsetMinutesIn(choice.zone),
      })
      return new Set(kept.keys())
    }
  }
}
