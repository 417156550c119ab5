const smallestBytes = 8 * 1024
const mostBits = 2 ** 27
/** The most that QEMU takes. */
const largestBytes = 2 * 1024 * 1024 * 1024

/**
 * Bytes that one bit of a disk's dirty bitmap stands for: fine enough that scattered writes of 4 KiB don't store much
 * more than was written, and coarse enough that a bitmap takes no more than 16 MiB in QEMU's memory.
 * @returns a power of two, from 8 KiB on
 */
export function defaultGranularityBytes(sizeBytes: number): number {
  let granularity = smallestBytes
  while (granularity < largestBytes && sizeBytes / granularity > mostBits) granularity *= 2
  return granularity
}
