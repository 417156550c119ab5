import type { PointManifest, StoreRecord } from '../../src/model/manifest.js'

/** A store's record with whatever a test does not care about filled in. */
export function aStore(changes: Partial<StoreRecord> = {}): StoreRecord {
  return {
    name: 'root',
    kind: 'disk',
    sizeBytes: 1_048_576,
    mode: 'full',
    reason: 'first point of this machine',
    changeId: 'a:1:b',
    dataExtents: 1,
    zeroExtents: 0,
    changedBytes: 1_048_576,
    contentBytes: 1_048_576,
    storedBytes: 1000,
    contentSum: '0'.repeat(64),
    auditedTo: 0,
    distrust: null,
    ...changes,
  }
}

/** A point's manifest with whatever a test does not care about filled in. */
export function aPoint(changes: Partial<PointManifest> = {}): PointManifest {
  const point = changes.point ?? 1
  return {
    format: 1,
    requires: [],
    optional: [],
    type: 'point',
    repositoryId: 'f3f5dd6c-5a8e-4b7e-9a7e-0c5b0f0f7a01',
    machine: 'web01',
    machineUuid: '0b8a3f5e-1111-4222-8333-444455556666',
    point,
    parent: null,
    nonce: `nonce-${point}`,
    tracker: 'disk',
    time: new Date(Date.UTC(2026, 0, point)).toISOString(),
    startedAt: new Date(Date.UTC(2026, 0, point)).toISOString(),
    durationMs: 1000,
    consistency: 'crash',
    stores: [aStore()],
    archive: { name: `machines/web01/archives/${point}.tar.zst`, bytes: 1, sha256: '0'.repeat(64) },
    warnings: [],
    agent: 'refpoint test',
    signatures: [],
    ...changes,
  }
}
