/** The fixed measures of the archive format, in bytes unless named otherwise; see `archive/FORMAT.md`. */
export const SECTOR_BYTES = 512
/** The unit of digests. */
export const DIGEST_BLOCK_BYTES = 65_536
export const DIGEST_BYTES = 16
/** Tables are kept per window, so that memory does not grow with the disk. */
export const WINDOW_BYTES = 1_073_741_824
export const WINDOW_SECTORS = WINDOW_BYTES / SECTOR_BYTES
export const WINDOW_BLOCKS = WINDOW_BYTES / DIGEST_BLOCK_BYTES
/** The most content that one frame holds. */
export const FRAME_CONTENT_BYTES = 1_048_576

/** Values of the `kind` column of extent tables. */
export const KIND_DATA = 1
export const KIND_ZERO = 2

/** Values of the `state` column of digest tables; 0 is never stored and means "no entry". */
export const STATE_NONE = 0
export const STATE_DIGEST = 1
export const STATE_ZERO = 2
export const STATE_UNKNOWN = 3
/** As STATE_DIGEST, of a block of which the archive stores only a part: the rest is what older archives hold. */
export const STATE_PARTLY = 4

/** Whether a run of this state has digests in the digest column. */
export function hasDigests(state: number): boolean {
  return state === STATE_DIGEST || state === STATE_PARTLY
}

/** How many digest blocks a store has; its last one may be short. */
export function blockCount(sizeBytes: number): number {
  return Math.ceil(sizeBytes / DIGEST_BLOCK_BYTES)
}

/** How many windows a store has; its last one may be short. */
export function windowCount(sizeBytes: number): number {
  return Math.ceil(sizeBytes / WINDOW_BYTES)
}
