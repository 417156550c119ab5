import type { AuditManifest, Distrust, PointManifest } from './manifest.js'

/** What the history of a machine says about the tracker of one of its stores. */
export interface Trust {
  /** Digest block at which the next audit goes on. */
  readonly auditedTo: number
  readonly distrust: Distrust | null
}

/**
 * The newest word on a store's tracker, of points and of audits alike: slots order them, since only one run at a time
 * may claim one. A store that nobody spoke of is trusted, and is audited from its beginning.
 * @param history points and audits, in any order.
 */
export function trustOf(history: readonly (PointManifest | AuditManifest)[], store: string): Trust {
  let newest = -1
  let trust: Trust = { auditedTo: 0, distrust: null }
  for (const { point, stores } of history) {
    if (point < newest) continue
    const record = stores.find(({ name }) => name === store)
    if (record === undefined) continue
    newest = point
    trust = { auditedTo: record.auditedTo, distrust: record.distrust }
  }
  return trust
}
