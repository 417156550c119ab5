import type { Range } from '../../model/extent.js'
import type { StorePlan } from '../../model/planner.js'
import type { CheckpointStore } from '../../trackers/tracker.js'
import type { Asked } from './evidence.js'

/** Bytes that a plan will read, as far as listing tells without reading: for the progress bar. */
export async function countBytes(
  asked: readonly Asked[],
  plans: readonly StorePlan[],
  signal: AbortSignal,
): Promise<number> {
  let total = 0
  for (const { store, changed } of asked) {
    const mode = plans.find((plan) => plan.name === store.name)?.mode
    if (mode === 'tracked' && changed !== undefined) {
      for await (const page of await changed()) for (const range of page) total += await dataBytes(store, range, signal)
    } else {
      total += await dataBytes(store, { offset: 0, length: store.sizeBytes }, signal)
    }
  }
  return total
}

async function dataBytes(store: CheckpointStore, range: Range, signal: AbortSignal): Promise<number> {
  let bytes = 0
  for await (const page of store.allocatedExtents(range, { signal })) {
    for (const extent of page) if (extent.kind === 'data') bytes += extent.length
  }
  return bytes
}
