import { ChangeIdExpired } from '../../model/errors.js'
import { NOTHING_BELOW, UNKNOWN_BELOW } from './backing-chain.js'

/**
 * A change ID of a disk that QEMU's dirty bitmaps track, whether it runs or is shut down: the instant that the bitmap's
 * name has, and what must not have changed for the bitmap to tell all changes since.
 */
export interface BitmapChangeId {
  /** 16 hex digits, random, of one instant of one disk. */
  readonly instant: string
  readonly granularityBytes: number
  readonly sizeBytes: number
  /** `fingerprintChain` of what is below the disk's image. */
  readonly below: string
}

export function formatBitmapChangeId({ instant, granularityBytes, sizeBytes, below }: BitmapChangeId): string {
  const id = `bitmap:${instant}:${granularityBytes}:${sizeBytes}`
  return below === NOTHING_BELOW ? id : `${id}:${below}`
}

/** @throws ChangeIdExpired `unknown` when the text is no such change ID. */
export function parseBitmapChangeId(text: string): BitmapChangeId {
  const match = /^bitmap:([0-9a-f]{16}):([1-9][0-9]{0,9}):(0|[1-9][0-9]{0,15})(?::([0-9a-f]{16}|unknown))?$/.exec(text)
  const [, instant = '', granularity = '', size = '', below = NOTHING_BELOW] = match ?? []
  if (match === null) throw new ChangeIdExpired('unknown', 'another tracker had the disk then')
  return { instant, granularityBytes: Number(granularity), sizeBytes: Number(size), below }
}

/** What a disk is by now. */
export interface DiskState {
  readonly sizeBytes: number
  /** `fingerprintChain` of what is below the disk's image. */
  readonly below: string
}

/** What QEMU says of a bitmap that it has. */
export interface BitmapState {
  readonly granularityBytes: number
  /** Whether it records what is written. */
  readonly recording: boolean
  /** It was in use when QEMU ended without saving it. */
  readonly inconsistent: boolean
}

/**
 * Decides whether a bitmap tells everything that was written since a change ID: exactly that bitmap is there, has
 * recorded all the while, and the disk and all that is below it are what they were.
 * @param bitmap undefined when the disk has none of that instant.
 * @throws ChangeIdExpired in all other cases, with the reason for people to read.
 */
export function assertAnswerable(since: BitmapChangeId, bitmap: BitmapState | undefined, disk: DiskState): void {
  const { sizeBytes, below } = disk
  if (sizeBytes !== since.sizeBytes) {
    const sizes = `from ${since.sizeBytes} to ${sizeBytes} bytes`
    throw new ChangeIdExpired('resized', `the disk was resized ${sizes} since that point`)
  }
  if (bitmap === undefined) {
    throw new ChangeIdExpired('unknown', 'the disk has no dirty bitmap of that point any more')
  }
  if (bitmap.inconsistent) {
    throw new ChangeIdExpired('inconsistent', 'the dirty bitmap was not saved: QEMU was killed, or the power failed')
  }
  if (!bitmap.recording) {
    throw new ChangeIdExpired('inconsistent', 'somebody stopped the dirty bitmap, so that it missed writes')
  }
  if (bitmap.granularityBytes !== since.granularityBytes) {
    throw new ChangeIdExpired('inconsistent', 'the dirty bitmap was replaced by one of another granularity')
  }
  if (below === UNKNOWN_BELOW || since.below === UNKNOWN_BELOW) {
    throw new ChangeIdExpired('untracked', 'nothing can tell whether its backing file changed')
  }
  if (below !== since.below) {
    throw new ChangeIdExpired('other-disk', 'its backing file was written to, copied, or replaced since that point')
  }
}
