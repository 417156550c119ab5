import { RefpointError } from '../model/errors.js'
import type { AuditManifest, PointManifest, SlotManifest } from '../model/manifest.js'
import { encodeJson } from './json-object.js'
import { pointName } from './layout.js'
import { readSlot } from './manifests.js'
import type { WriteRepository } from './repository.js'

/**
 * Commits a point, or an audit, by claiming its slot. When this resolves it is there to stay. May be called again with the
 * same manifest after it failed: the nonce tells whether the slot is already ours.
 * @throws RefpointError `locked` when somebody else has the slot: nothing was committed; `commit-unknown`.
 */
export async function commitPoint(repository: WriteRepository, manifest: PointManifest | AuditManifest): Promise<void> {
  const object = pointName(manifest.machine, manifest.point)
  if ((await repository.claim(object, encodeJson(manifest))) === 'created') return
  const found = await readSlot(repository, manifest.machine, manifest.point).catch((error: unknown) => {
    if (error instanceof RefpointError && error.code === 'damaged') return undefined
    throw error
  })
  if (found?.nonce !== manifest.nonce) throw leaseLost(manifest, found)
}

function leaseLost(manifest: PointManifest | AuditManifest, found: SlotManifest | undefined): RefpointError {
  const { machine, point } = manifest
  const why = found?.type === 'aborted' ? `: ${found.reason}` : ', which another run has taken'
  const message = `the lease on machine '${machine}' was lost before ${manifest.type === 'point' ? 'point' : 'audit'} #${point} was committed${why}`
  return new RefpointError('locked', message, {
    hint: `Nothing was committed and nothing is lost: run the ${manifest.type === 'point' ? 'backup' : 'audit'} again.`,
    fields: { machine, point },
  })
}
