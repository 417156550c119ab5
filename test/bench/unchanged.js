import { mkdir, open } from 'node:fs/promises'
import { join } from 'node:path'
import { createDisk } from '../../dist/index.js'
import { changeDisk } from './changes.js'
import { contest } from './measure.js'
import { setUp } from './refpoint.js'
import { goal, memoryGoal, seconds } from './table.js'

const pieceBytes = 2 ** 20

/** Nothing changed: it must not matter how large the disk is. */
export async function unchanged(bench) {
  const { work, size } = bench
  await mkdir(work, { recursive: true })
  const { large, small, written } = size.sparse
  const contestants = {}
  for (const [name, bytes] of [['large', large], ['small', small]]) {
    const disk = join(work, name)
    await createDisk(disk, { sizeBytes: bytes })
    await changeDisk(disk, spread(await dataOf(bench.image.path, written), bytes))
    const ours = await setUp(bench, `${name}-backup`, { tracker: 'disk', stores: { root: disk } })
    await ours.backup()
    contestants[name] = () => ours.backup('--incremental')
  }
  const found = await contest(bench, contestants)
  const written1 = `${written / 2 ** 20} MiB written`
  return [
    { what: `refpoint backup, ${large / 2 ** 30} GiB, ${written1}`, ...found.large },
    { what: `refpoint backup, ${small / 2 ** 30} GiB, ${written1}`, ...found.small },
    goal('time', found.large.seconds, '≤', 0.7, seconds),
    goal('time, of that of the small disk', found.large.seconds / found.small.seconds, '≤', 1.2),
    ...memoryGoal('peak memory', found.large, 150),
  ]
}

async function dataOf(path, bytes) {
  const file = await open(path, 'r')
  const pieces = []
  for (let offset = 0; pieces.length * pieceBytes < bytes; offset += pieceBytes) {
    const piece = Buffer.alloc(pieceBytes)
    const { bytesRead } = await file.read(piece, 0, pieceBytes, offset)
    if (bytesRead === 0) break
    pieces.push(piece)
  }
  await file.close()
  return pieces
}

function spread(pieces, sizeBytes) {
  const step = Math.floor(sizeBytes / pieces.length / pieceBytes) * pieceBytes
  return pieces.map((piece, index) => [index * step, piece])
}
