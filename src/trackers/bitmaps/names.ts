import { createHash, randomBytes } from 'node:crypto'
import type { Owner } from '../tracker.js'

/*
 * Names of the dirty bitmaps that refpoint keeps on a disk. They say whose they are, and which instant of which disk
 * they begin at, so that several repositories can back up one machine and each finds and removes only its own:
 *
 *   refpoint-<owner, 16 hex digits>-<instant, 16 hex digits>          records all writes since that instant
 *   refpoint-<owner, 16 hex digits>-<instant, 16 hex digits>-frozen   a copy, for one run, that records nothing
 *
 * An instant is random and of one disk only: two disks of one checkpoint have different ones, so that a disk that was
 * put in another's place is not taken for it.
 */
const form = /^refpoint-([0-9a-f]{16})-([0-9a-f]{16})(-frozen)?$/

export interface BitmapName {
  /** `ownerTag` of the owner. */
  readonly owner: string
  readonly instant: string
  readonly frozen: boolean
}

/** 16 hex digits for an owner, whose IDs may be any text. */
export function ownerTag({ repositoryId, machineUuid }: Owner): string {
  return createHash('sha256').update(JSON.stringify([repositoryId, machineUuid])).digest('hex').slice(0, 16)
}

/** A new instant of one disk: 16 random hex digits. */
export function newInstant(): string {
  return randomBytes(8).toString('hex')
}

export function formatBitmapName({ owner, instant, frozen }: BitmapName): string {
  return `refpoint-${owner}-${instant}${frozen ? '-frozen' : ''}`
}

/** Undefined for a bitmap that is none of refpoint's. */
export function parseBitmapName(name: string): BitmapName | undefined {
  const [, owner, instant, frozen] = form.exec(name) ?? []
  if (owner === undefined || instant === undefined) return undefined
  return { owner, instant, frozen: frozen !== undefined }
}
