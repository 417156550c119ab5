/**
 * How much a checkpoint promises, weakest first: `torn`: not one instant; `crash`: as after a power cut;
 * `filesystem`: the guest's file systems were frozen; `offline`: nothing was running.
 */
export type Consistency = 'torn' | 'crash' | 'filesystem' | 'offline'

/** What outlives a checkpoint and lets the next run ask what changed since: one change ID per store. */
export interface ReferencePoint {
  /** The point (slot) in whose manifest it is kept. */
  readonly point: number
  /** ISO 8601, UTC. */
  readonly time: string
  readonly consistency: Consistency
  /** Store name to change ID; a store whose tracker keeps none is absent. */
  readonly changeIds: Readonly<Record<string, string>>
}
