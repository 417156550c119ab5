import type { PointManifest } from '../../src/model/manifest.js'

/** A manifest as a backup would write it. */
export function pointManifest(fields: Partial<PointManifest>): PointManifest {
  const point = fields.point ?? 1
  return {
    format: 1,
    requires: [],
    optional: [],
    type: 'point',
    repositoryId: '5f0c8f54-3a64-4f0e-8f0e-6f0f3f6f1c11',
    machine: 'web01',
    machineUuid: '0d9b5f6c-7ad7-4bb5-9ad2-6a3a24a8f0aa',
    point,
    parent: point === 1 ? null : point - 1,
    nonce: `nonce-${point}`,
    tracker: 'image',
    time: '2026-01-31T03:00:00.000Z',
    startedAt: '2026-01-31T02:59:58.000Z',
    durationMs: 2000,
    consistency: 'crash',
    stores: [
      {
        name: 'root',
        kind: 'disk',
        sizeBytes: 1 << 30,
        mode: point === 1 ? 'full' : 'tracked',
        reason: 'first point',
        changeId: null,
        dataExtents: 1,
        zeroExtents: 0,
        changedBytes: 65536,
        contentBytes: 65536,
        storedBytes: 1000,
        contentSum: 'ab'.repeat(32),
        auditedTo: 0,
        distrust: null,
      },
    ],
    archive: { name: `machines/web01/archives/a${point}.tar.zst`, bytes: 5000, sha256: 'cd'.repeat(32) },
    warnings: [],
    agent: 'refpoint test',
    signatures: [],
    ...fields,
  }
}
