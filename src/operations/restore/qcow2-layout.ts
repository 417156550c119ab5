import { DIGEST_BLOCK_BYTES } from '../../model/geometry.js'

/*
 * The parts of a qcow2 image, version 3, as QEMU's docs/interop/qcow2.txt specifies them. Numbers in the file are
 * big-endian. A cluster is as large as a digest block, so that a digest block lies in one piece.
 *
 *   header | L1 table | for each window: its L2 tables, its data | refcount table | refcount blocks
 */
export const CLUSTER_BYTES = DIGEST_BLOCK_BYTES
/** What one L2 table maps. */
export const L2_SPAN_BYTES = (CLUSTER_BYTES / 8) * CLUSTER_BYTES
/** Clusters counted by one block of 16-bit refcounts. */
const COUNTED_PER_BLOCK = CLUSTER_BYTES / 2
/** On a reference: the only one to its cluster, so that QEMU may write there in place. */
const COPIED = 1n << 63n
const HEADER_BYTES = 104

/** Its size in whole sectors: QEMU leaves off what does not fill one. */
export function virtualBytes(sizeBytes: number): number {
  return Math.ceil(sizeBytes / 512) * 512
}

export function l1Entries(sizeBytes: number): number {
  return Math.ceil(sizeBytes / L2_SPAN_BYTES)
}

/** A reference to a table or to data at `offset` of the file, as L1 and L2 tables have it. */
export function reference(offset: number): bigint {
  return COPIED | BigInt(offset)
}

export interface Refcounts {
  readonly blocks: number
  /** Clusters of the table that names the blocks. */
  readonly tableClusters: number
  /** Of the whole file: what was used before, the table and the blocks. */
  readonly totalClusters: number
}

/** Room for the refcounts of a file of `usedClusters`, which must count themselves, too. */
export function planRefcounts(usedClusters: number): Refcounts {
  let blocks = 1
  for (;;) {
    const tableClusters = Math.ceil((blocks * 8) / CLUSTER_BYTES)
    const totalClusters = usedClusters + tableClusters + blocks
    const needed = Math.ceil(totalClusters / COUNTED_PER_BLOCK)
    if (needed <= blocks) return { blocks, tableClusters, totalClusters }
    blocks = needed
  }
}

/** The table of refcount blocks that lie one after another from `firstBlockOffset` on. */
export function refcountTable({ blocks, tableClusters }: Refcounts, firstBlockOffset: number): Buffer {
  const table = Buffer.alloc(tableClusters * CLUSTER_BYTES)
  for (let i = 0; i < blocks; i++) table.writeBigUInt64BE(BigInt(firstBlockOffset + i * CLUSTER_BYTES), i * 8)
  return table
}

/** Refcount block `index`: 1 for each cluster of the file, 0 past its end. */
export function refcountBlock({ totalClusters }: Refcounts, index: number): Buffer {
  const counted = Math.min(COUNTED_PER_BLOCK, totalClusters - index * COUNTED_PER_BLOCK)
  const block = Buffer.alloc(CLUSTER_BYTES)
  for (let i = 0; i < counted; i++) block[i * 2 + 1] = 1
  return block
}

export interface HeaderInput {
  readonly sizeBytes: number
  readonly l1Offset: number
  readonly refcountOffset: number
  readonly refcountClusters: number
}

/** The header: no backing file, no encryption, no snapshots, and the end of the list of extensions. */
export function header({ sizeBytes, l1Offset, refcountOffset, refcountClusters }: HeaderInput): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES + 8)
  bytes.write('QFI\xfb', 0, 'latin1')
  bytes.writeUInt32BE(3, 4)
  bytes.writeUInt32BE(Math.log2(CLUSTER_BYTES), 20)
  bytes.writeBigUInt64BE(BigInt(virtualBytes(sizeBytes)), 24)
  bytes.writeUInt32BE(l1Entries(sizeBytes), 36)
  bytes.writeBigUInt64BE(BigInt(l1Offset), 40)
  bytes.writeBigUInt64BE(BigInt(refcountOffset), 48)
  bytes.writeUInt32BE(refcountClusters, 56)
  // The width of a refcount: 2^4 bits.
  bytes.writeUInt32BE(4, 96)
  bytes.writeUInt32BE(HEADER_BYTES, 100)
  return bytes
}
