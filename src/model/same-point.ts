import type { PointManifest } from './manifest.js'

/**
 * Whether two manifests are of one point: the same instant of the same machine, with the same content. How it is stored
 * may differ: a fold changes its parent, its archive and its nonce.
 */
export function isSamePoint(one: PointManifest, other: PointManifest): boolean {
  return describe(one) === describe(other)
}

function describe({ machineUuid, point, time, startedAt, stores }: PointManifest): string {
  const contents = stores.map(({ name, sizeBytes, contentSum }) => [name, sizeBytes, contentSum])
  return JSON.stringify([machineUuid, point, time, startedAt, contents.sort()])
}
