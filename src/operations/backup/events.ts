import type { StorePlan } from '../../model/planner.js'

/** The steps of a run, in their order; each is told when it is done. */
export type BackupStep =
  'locked' | 'cleaned' | 'checkpointed' | 'planned' | 'streamed' | 'archived' | 'committed' | 'released' | 'disposed'

/** What a run tells while it goes on. */
export type BackupEvent =
  | { readonly type: 'step'; readonly machine: string; readonly step: BackupStep }
  | {
      readonly type: 'plan'
      readonly machine: string
      readonly parent: number | null
      readonly stores: readonly StorePlan[]
    }
  | { readonly type: 'total'; readonly machine: string; readonly bytes: number }
  | { readonly type: 'read'; readonly machine: string; readonly store: string; readonly bytes: number }
  | { readonly type: 'trusted-again'; readonly machine: string; readonly store: string; readonly message: string }
  | { readonly type: 'warning'; readonly machine: string; readonly message: string }
