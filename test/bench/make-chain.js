/*
 * node make-chain.js <repository> <store bytes> <points> <changed bytes> <extent bytes>
 *
 * Makes a repository with a synthetic chain of a disk that is full of data: a full, and incrementals that each change
 * so much of it, evenly spread, in extents of that size. Every frame holds the same MiB.
 */
import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { ArchiveWriter } from '../../dist/archive/writer.js'
import { loadCodec } from '../../dist/compress/load-codec.js'
import { agent, buildRepository, initRepository } from '../../dist/index.js'
import { commitSlot } from '../../dist/repository/commit.js'
import { archiveName } from '../../dist/repository/layout.js'
import { openMachine } from '../../dist/repository/machine.js'

const machine = 'bench'
const chunkBytes = 2 ** 20
const blockBytes = 65_536
const [, , path, ...numbers] = process.argv
const [storeBytes, points, changedBytes, extentBytes] = numbers.map(Number)

const repository = await buildRepository({ path }, { create: true })
const { record } = await initRepository(repository)
const { uuid } = await openMachine(repository, machine, { create: true })
const codec = await loadCodec()
// The same wherever an extent is cut out of it, and small when compressed.
const piece = Buffer.alloc(8192, randomBytes(16))
const content = Buffer.concat(Array.from({ length: chunkBytes / piece.length }, () => piece))
const block = content.subarray(0, blockBytes)
const frame = codec.compress(content, 1)
const blockDigest = createHash('sha256').update(block).digest().subarray(0, 16)
// As many as a chunk of single extents can touch.
const blockDigests = Buffer.concat(Array.from({ length: chunkBytes / extentBytes + 16 }, () => blockDigest))

for (let point = 1; point <= points; point += 1) await writePoint(point)

async function writePoint(point) {
  const parent = point === 1 ? null : point - 1
  const time = new Date(Date.UTC(2026, 0, 1) + point * 3_600_000).toISOString()
  const mode = parent === null ? 'full' : 'tracked'
  const nonce = randomUUID()
  const origin = { repositoryId: record.id, machine, machineUuid: uuid, point, parent, nonce, time, agent }
  const outside = { format: 1, requires: [], optional: [], ...origin, consistency: 'offline' }
  const store = { name: 'root', kind: 'disk', sizeBytes: storeBytes, mode }
  const writer = new ArchiveWriter({ header: { ...outside, stores: [store] }, codec, level: 1 })
  const stored = repository.put(archiveName(machine, nonce), writer.output)
  const storeWriter = writer.store('root')
  for (const chunk of mode === 'full' ? wholeStore() : changes(point)) await storeWriter.append(chunk)
  const totals = await storeWriter.finish(null)
  const { sha256 } = await writer.finish()
  const { name, bytes } = await stored
  await commitSlot(repository, {
    ...outside,
    type: 'point',
    tracker: 'disk',
    startedAt: time,
    durationMs: 0,
    stores: [{ ...store, reason: 'made by the bench', changeId: null, ...totals, contentSum: null, auditedTo: 0 }],
    archive: { name, bytes, sha256 },
    warnings: [],
    signatures: [],
  })
}

/** Each MiB of the store, cut into extents. */
function* wholeStore() {
  const count = chunkBytes / extentBytes
  for (let offset = 0; offset < storeBytes; offset += chunkBytes) {
    yield chunkOf(Array.from({ length: count }, (_, index) => offset + index * extentBytes))
  }
}

/** Extents at even distances, other ones in each point. */
function* changes(point) {
  const count = changedBytes / extentBytes
  const step = Math.floor(storeBytes / count / extentBytes) * extentBytes
  const shift = (point * extentBytes) % step
  const perChunk = chunkBytes / extentBytes
  for (let first = 0; first < count; first += perChunk) {
    const number = Math.min(perChunk, count - first)
    yield chunkOf(Array.from({ length: number }, (_, index) => (first + index) * step + shift))
  }
}

function chunkOf(offsets) {
  const extents = new Float64Array(offsets.length * 4)
  const runs = []
  let end = -1
  let blocks = 0
  for (let index = 0; index < offsets.length; index += 1) {
    const offset = offsets[index]
    extents[index * 4] = offset
    extents[index * 4 + 1] = extentBytes
    extents[index * 4 + 2] = 1
    extents[index * 4 + 3] = index * extentBytes
    const first = Math.max(end, Math.floor(offset / blockBytes))
    const count = Math.ceil((offset + extentBytes) / blockBytes) - first
    if (count <= 0) continue
    if (first === end && runs.length > 0) runs[runs.length - 2] += count
    else runs.push(first, count, 1)
    blocks += count
    end = first + count
  }
  const digests = blockDigests.subarray(0, blocks * 16)
  return { frame, contentBytes: chunkBytes, extents, runs: Float64Array.from(runs), digests }
}
