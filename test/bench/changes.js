import { open, writeFile } from 'node:fs/promises'
import { connectNbd, serveDisks } from '../../dist/index.js'
import { run } from './measure.js'

export const blockBytes = 65_536

/** The same numbers every time, so that runs compare. */
export function randomNumbers(seed) {
  let state = seed >>> 0
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 32
  }
}

/**
 * Blocks to change: places where the image has data, and for each the data of another such place, so that what is
 * written compresses as real data does.
 */
export async function chooseBlocks(image, count, seed) {
  const random = randomNumbers(seed)
  const file = await open(image.path, 'r')
  const blocks = new Map()
  try {
    let source
    while (blocks.size < count) {
      const offset = Math.floor((random() * image.sizeBytes) / blockBytes) * blockBytes
      const content = Buffer.alloc(blockBytes)
      await file.read(content, 0, blockBytes, offset)
      if (isZero(content)) continue
      // Changed in a byte of its own, so that no two blocks and no two rounds are the same.
      if (source !== undefined) {
        source.writeDoubleLE(random(), 8)
        blocks.set(offset, source)
      }
      source = content
    }
  } finally {
    await file.close()
  }
  return [...blocks].toSorted(([a], [b]) => a - b)
}

function isZero(content) {
  return content.equals(Buffer.alloc(content.length))
}

/** Writes blocks into a raw image file, durably. */
export async function changeFile(path, blocks) {
  const file = await open(path, 'r+')
  for (const [offset, content] of blocks) await file.write(content, 0, content.length, offset)
  await file.sync()
  await file.close()
}

/** Writes blocks to a tracked disk as a guest does: over NBD. */
export async function changeDisk(folder, blocks) {
  const path = `${folder}.sock`
  const server = await serveDisks({ folders: [folder], listen: { path } })
  try {
    const [exportName] = server.exports.keys()
    const disk = await connectNbd({ path }, { exportName })
    for (const [offset, content] of blocks) await disk.write(content, offset)
    await disk.flush()
    await disk.disconnect()
  } finally {
    await server.close()
  }
}

/** What the changed bytes are when compressed, as one stream, as refpoint's default level does. */
export async function compressedBytes(bench, blocks) {
  const path = `${bench.work}/changed`
  await writeFile(path, Buffer.concat(blocks.map(([, content]) => content)))
  const { stdout } = await run('sh', ['-c', 'zstd -1 -c -q "$1" | wc -c', 'sh', path])
  return Number(stdout)
}
