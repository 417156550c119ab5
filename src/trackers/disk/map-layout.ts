import { RefpointError } from '../../model/errors.js'

/**
 * Where things are in a layer's map file. All integers are little-endian u32.
 *
 * The file is a header of 4 KiB and then groups of 8,192 regions. A region is 1,024 blocks. A group is a directory
 * chunk of 64 KiB, eight bytes per region (`max`, the highest generation in the region's fine page, and `coarse`, a
 * generation that stands for all of the region's present blocks), followed by the regions' fine pages of 4 KiB: for
 * each block the generation in which it was last written in this layer, 0 where it was not. Everything never written
 * is a hole and reads as 0, so that a map of any size is created in no time; the file grows with what is written, and
 * a disk that grows appends groups. Asking a 10 TiB disk what changed reads 80 chunks when nothing did.
 *
 * A region whose entry is 0, 0 has no present block, whatever its fine page says: an entry is durable before its page.
 */
export const headerBytes = 4096
export const blocksPerRegion = 1024
export const pageBytes = blocksPerRegion * 4
export const regionsPerChunk = 8192
export const entryBytes = 8
export const chunkBytes = regionsPerChunk * entryBytes
const groupBytes = chunkBytes + regionsPerChunk * pageBytes

/** Byte offset of a region's directory entry. */
export function entryOffset(region: number): number {
  const group = Math.floor(region / regionsPerChunk)
  return headerBytes + group * groupBytes + (region - group * regionsPerChunk) * entryBytes
}

/** Byte offset of a region's fine page. Pages of consecutive regions of one group follow each other. */
export function pageOffset(region: number): number {
  const group = Math.floor(region / regionsPerChunk)
  return headerBytes + group * groupBytes + chunkBytes + (region - group * regionsPerChunk) * pageBytes
}

export function blockCount(sizeBytes: number, blockBytes: number): number {
  return Math.ceil(sizeBytes / blockBytes)
}

export function regionCount(sizeBytes: number, blockBytes: number): number {
  return Math.ceil(blockCount(sizeBytes, blockBytes) / blocksPerRegion)
}

export function regionOf(block: number): number {
  return Math.floor(block / blocksPerRegion)
}

const magic = 'rfpt-map'
const version = 1

export function encodeMapHeader(blockBytes: number): Uint8Array {
  const header = Buffer.alloc(headerBytes)
  header.write(magic, 0, 'latin1')
  header.writeUInt32LE(version, 8)
  header.writeUInt32LE(blockBytes, 12)
  return header
}

/** @throws RefpointError `damaged` when the file is no map of such blocks. */
export function checkMapHeader(header: Uint8Array, path: string, blockBytes: number): void {
  const view = Buffer.from(header.buffer, header.byteOffset, header.byteLength)
  const found = view.length < 16 ? '' : view.toString('latin1', 0, 8)
  if (found === magic && view.readUInt32LE(8) === version && view.readUInt32LE(12) === blockBytes) return
  throw new RefpointError('damaged', `${path} is not a block map of this disk`, {
    hint: 'The disk folder is damaged, or its files were mixed with those of another disk.',
  })
}
