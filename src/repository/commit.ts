import { RefpointError } from '../model/errors.js'
import type { AuditManifest, FoldManifest, PointManifest, SlotManifest } from '../model/manifest.js'
import { encodeJson } from './json-object.js'
import { pointName } from './layout.js'
import { readSlot } from './read-slot.js'
import type { WriteRepository } from './repository.js'

/** What a lease lets its holder claim its slot with. */
export type Committed = PointManifest | AuditManifest | FoldManifest

/**
 * Commits a point, an audit or a prune by claiming its slot. When this resolves it is there to stay. May be called
 * again with the same manifest after it failed: the nonce tells whether the slot is already ours.
 * @throws RefpointError `locked` when somebody else has the slot: nothing was committed; `commit-unknown`.
 */
export async function commitSlot(repository: WriteRepository, manifest: Committed): Promise<void> {
  const object = pointName(manifest.machine, manifest.point)
  if ((await repository.claim(object, encodeJson(manifest))) === 'created') return
  const found = await readSlot(repository, manifest.machine, manifest.point).catch((error: unknown) => {
    if (error instanceof RefpointError && error.code === 'damaged') return undefined
    throw error
  })
  if (found?.nonce !== manifest.nonce) throw leaseLost(manifest, found)
}

const commands = { point: 'backup', audit: 'audit', fold: 'prune' } as const

function leaseLost(manifest: Committed, found: SlotManifest | undefined): RefpointError {
  const { machine, point, type } = manifest
  const why = found?.type === 'aborted' ? `: ${found.reason}` : ', which another run has taken'
  const what = type === 'fold' ? `prune (slot ${point})` : `${type} #${point}`
  return new RefpointError('locked', `the lease on machine '${machine}' was lost before ${what} was committed${why}`, {
    hint: `Nothing was committed and nothing is lost: run the ${commands[type]} again.`,
    fields: { machine, point },
  })
}
