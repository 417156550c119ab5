import type { FileHandle } from '../../files/files.js'
import { blocksPerRegion, pageBytes, pageOffset, regionsPerChunk } from './map-layout.js'

/** One fine page of the map: the generation of each block of a region. */
export type FinePage = Uint32Array

const maxRun = 256

export async function readFinePage(handle: FileHandle, region: number): Promise<FinePage> {
  const page = new Uint32Array(blocksPerRegion)
  await handle.read(new Uint8Array(page.buffer), pageOffset(region))
  return page
}

/** Writes pages, those of consecutive regions in one call. Not synced. */
export async function writeFinePages(handle: FileHandle, pages: ReadonlyMap<number, FinePage>): Promise<void> {
  const regions = Uint32Array.from(pages.keys()).sort()
  for (let start = 0; start < regions.length; ) {
    const first = regions[start] ?? 0
    const pieces: Uint8Array[] = []
    let region = first
    do {
      const page = pages.get(region)
      if (page === undefined) break
      pieces.push(new Uint8Array(page.buffer, page.byteOffset, pageBytes))
      region += 1
    } while (pieces.length < maxRun && region % regionsPerChunk !== 0)
    await handle.write(pieces, pageOffset(first))
    start += pieces.length
  }
}

export function highest(page: FinePage): number {
  let max = 0
  for (const generation of page) if (generation > max) max = generation
  return max
}
