import type { FileHandle } from 'node:fs/promises'
import type { ExtentMap } from '../../model/extent-map.js'
import { KIND_DATA, SECTOR_BYTES, WINDOW_BLOCKS } from '../../model/geometry.js'
import type { Place } from '../compose/compose-store.js'
import { createNewFile, type NewFileOptions } from './new-file.js'
import {
  CLUSTER_BYTES,
  header,
  L2_SPAN_BYTES,
  l1Entries,
  planRefcounts,
  reference,
  refcountBlock,
  refcountTable,
} from './qcow2-layout.js'
import type { RestoreTarget } from './target.js'

const CLUSTER_SECTORS = CLUSTER_BYTES / SECTOR_BYTES
const L2_ENTRIES = L2_SPAN_BYTES / CLUSTER_BYTES

/**
 * A new qcow2 image under a temporary name beside its place. Workers write straight into its clusters: those of a
 * window are given out in the order of the store, so that what is one run there is one run in the file.
 * @throws RefpointError `usage` when there is a file of that name and not `force`.
 */
export async function prepareQcow2(path: string, sizeBytes: number, options: NewFileOptions): Promise<RestoreTarget> {
  const { handle, temporary, written, publish, discard } = await createNewFile(path, options)
  const image = new Qcow2Image(handle, sizeBytes)
  return {
    path: temporary,
    finalPath: path,
    format: 'qcow2',
    temporary,
    writeZeroes: false,
    written,
    openWindow: (windowOffset, map) => image.openWindow(windowOffset, map),
    async finish() {
      await image.writeTables()
      await publish()
    },
    discard,
  }
}

class Qcow2Image {
  readonly #file: FileHandle
  readonly #sizeBytes: number
  readonly #l1: Buffer
  /** Clusters of the file that are given out. */
  #used: number

  constructor(file: FileHandle, sizeBytes: number) {
    this.#file = file
    this.#sizeBytes = sizeBytes
    this.#l1 = Buffer.alloc(Math.ceil((l1Entries(sizeBytes) * 8) / CLUSTER_BYTES) * CLUSTER_BYTES)
    this.#used = 1 + this.#l1.length / CLUSTER_BYTES
  }

  async openWindow(windowOffset: number, map: ExtentMap): Promise<Place> {
    const ranks = rankClusters(map)
    const tables: { readonly at: number; readonly table: number }[] = []
    for (let table = 0; table * L2_ENTRIES < WINDOW_BLOCKS; table++) {
      if (!ranks.subarray(table * L2_ENTRIES, (table + 1) * L2_ENTRIES).some((rank) => rank > 0)) continue
      const at = this.#take(1)
      this.#l1.writeBigUInt64BE(reference(at), (windowOffset / L2_SPAN_BYTES + table) * 8)
      tables.push({ at, table })
    }
    // The ranks count from 1.
    const before = this.#take(ranks.reduce((most, rank) => Math.max(most, rank), 0)) - CLUSTER_BYTES
    const offsetOf = (cluster: number): number => before + (ranks[cluster] ?? 0) * CLUSTER_BYTES
    for (const { at, table } of tables) {
      const entries = Buffer.alloc(CLUSTER_BYTES)
      for (let i = 0; i < L2_ENTRIES; i++) {
        const cluster = table * L2_ENTRIES + i
        if ((ranks[cluster] ?? 0) > 0) entries.writeBigUInt64BE(reference(offsetOf(cluster)), i * 8)
      }
      await this.#write(entries, at)
    }
    return (offset) => {
      const cluster = Math.floor((offset - windowOffset) / CLUSTER_BYTES)
      if ((ranks[cluster] ?? 0) === 0) throw new RangeError(`no cluster was given out for byte ${offset} of the store`)
      return offsetOf(cluster) + (offset % CLUSTER_BYTES)
    }
  }

  /** What can only be known when all data has its place. */
  async writeTables(): Promise<void> {
    const refcounts = planRefcounts(this.#used)
    const refcountOffset = this.#take(refcounts.tableClusters)
    const blocksOffset = this.#take(refcounts.blocks)
    await this.#write(refcountTable(refcounts, blocksOffset), refcountOffset)
    for (let i = 0; i < refcounts.blocks; i++) {
      await this.#write(refcountBlock(refcounts, i), blocksOffset + i * CLUSTER_BYTES)
    }
    const l1Offset = CLUSTER_BYTES
    await this.#write(this.#l1, l1Offset)
    const refcountClusters = refcounts.tableClusters
    await this.#write(header({ sizeBytes: this.#sizeBytes, l1Offset, refcountOffset, refcountClusters }), 0)
    await this.#file.truncate(refcounts.totalClusters * CLUSTER_BYTES)
  }

  /** The offset of the next `clusters` clusters. */
  #take(clusters: number): number {
    const offset = this.#used * CLUSTER_BYTES
    this.#used += clusters
    return offset
  }

  async #write(bytes: Buffer, offset: number): Promise<void> {
    let done = 0
    while (done < bytes.length) {
      const { bytesWritten } = await this.#file.write(bytes, done, bytes.length - done, offset + done)
      if (bytesWritten === 0) throw new Error(`nothing more can be written at byte ${offset + done}`)
      done += bytesWritten
    }
  }
}

/** For each cluster of a window the number, counted from 1, under which it has its place; 0 where it has no data. */
function rankClusters(map: ExtentMap): Uint32Array {
  const ranks = new Uint32Array(WINDOW_BLOCKS)
  for (let row = 0; row < map.count; row++) {
    if (map.kind[row] !== KIND_DATA) continue
    const first = map.start[row] ?? 0
    const last = first + (map.length[row] ?? 0) - 1
    ranks.fill(1, Math.floor(first / CLUSTER_SECTORS), Math.floor(last / CLUSTER_SECTORS) + 1)
  }
  let rank = 0
  for (let cluster = 0; cluster < ranks.length; cluster++) if (ranks[cluster] === 1) ranks[cluster] = ++rank
  return ranks
}
