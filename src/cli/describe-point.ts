import type { PointManifest, StoreRecord } from '../model/manifest.js'
import { formatBytes, formatDuration } from './format.js'

/** Whether a point needs others: `full` or `incremental`. */
export function kindOf(point: PointManifest): 'full' | 'incremental' {
  return point.stores.every((store) => store.mode === 'full') ? 'full' : 'incremental'
}

/** Sums over a point's stores, in bytes. */
export function totals(point: PointManifest): { readonly changedBytes: number; readonly contentBytes: number } {
  return {
    changedBytes: point.stores.reduce((sum, store) => sum + store.changedBytes, 0),
    contentBytes: point.stores.reduce((sum, store) => sum + store.contentBytes, 0),
  }
}

/** `root tracked (changes since point #41)` */
export function describeStore(store: StoreRecord): string {
  return `${store.name} ${store.mode} (${store.reason})`
}

/** One line for a mail; with `perStore` one more for each store. Why each store went as it did is always told. */
export function describePoint(point: PointManifest, { perStore }: { readonly perStore: boolean }): string[] {
  const { changedBytes } = totals(point)
  const line =
    `${point.machine}: point #${point.point}, ${kindOf(point)}, ${point.consistency}: ` +
    `changed ${formatBytes(changedBytes)}, stored ${formatBytes(point.archive.bytes)}, took ${formatDuration(point.durationMs)}`
  if (!perStore) return [`${line}; ${point.stores.map(describeStore).join('; ')}`]
  return [line, ...point.stores.map((store) => `  ${describeStore(store)}`)]
}
