import type { Fold } from '../../model/fold-plan.js'
import type { PrunePlan } from './plan.js'

/** The steps of a prune that changes something, in their order; each is told when it is done. */
export type PruneStep = 'locked' | 'tidied' | 'planned' | 'folded' | 'revised' | 'checked' | 'committed' | 'removed'

/** What a prune tells while it goes on. */
export type PruneEvent =
  | { readonly type: 'step'; readonly machine: string; readonly step: PruneStep }
  | { readonly type: 'plan'; readonly machine: string; readonly plan: PrunePlan }
  | { readonly type: 'fold'; readonly machine: string; readonly fold: Fold }
  /** Bytes written to new archives. */
  | { readonly type: 'written'; readonly machine: string; readonly bytes: number }
  | { readonly type: 'warning'; readonly machine: string; readonly message: string }
