import { mkdir, open, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { chooseBlocks } from './changes.js'
import { copyImage } from './image.js'
import { startMachine } from './machine.js'
import { contest, run } from './measure.js'
import { setUp } from './refpoint.js'
import { goal, memoryGoal, seconds } from './table.js'

const kib = 1024
const randomWrites = 10_000
const granularities = [4, 8, 16, 64]
const defaultGranularity = 8

/** A machine of QEMU that runs, read through fleecing: a full, changed blocks, no change, and scattered small writes. */
export async function qemu(bench) {
  await mkdir(bench.work, { recursive: true })
  return [...(await nothing(bench)), ...(await latency(bench)), ...(await content(bench)), ...(await scattered(bench))]
}

/** Nothing changed on two large sparse disks. */
async function nothing(bench) {
  const { work, size } = bench
  const disks = {}
  for (const name of ['root', 'data']) {
    disks[name] = join(work, `${name}.qcow2`)
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', disks[name], String(size.sparse.large)])
  }
  const machine = await startMachine(work, disks)
  try {
    const ours = await setUp(bench, 'nothing', { tracker: 'qemu', qmp: machine.qmp })
    await ours.backup()
    const { unchanged } = await contest(bench, { unchanged: () => ours.backup('--incremental') })
    return [
      { what: `no change, two disks of ${size.sparse.large / 2 ** 30} GiB`, ...unchanged },
      goal('time', unchanged.seconds, '≤', 1, seconds),
      ...memoryGoal('peak memory', unchanged, 300),
    ]
  } finally {
    await machine.end()
    for (const path of Object.values(disks)) await rm(path)
  }
}

/** Words of the guest's memory, see test/qemu/guest/boot.S. */
const guestWorst = 0x7e18
const guestEnded = 0x7e28
const quietMs = 15_000

/** The longest write that a guest saw, as long without a backup as with one after the other. */
async function latency(bench) {
  const { work } = bench
  const disk = join(work, 'guest.qcow2')
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', disk, '1G'])
  const sector = join(import.meta.dirname, '../qemu/guest/boot.bin')
  await run('qemu-io', ['-c', 'write -P 1 64M 512M', '-c', `write -s ${sector} 0 512`, disk])
  const machine = await startMachine(work, { root: disk }, { runs: true })
  try {
    const ours = await setUp(bench, 'latency', { tracker: 'qemu', qmp: machine.qmp })
    // The counter's 64 bits, in units of 65,536: as `worst` is.
    const ticks = async () => ((await machine.word(guestEnded + 4)) * 2 ** 32 + (await machine.word(guestEnded))) / 65_536
    while ((await machine.word(guestEnded)) === 0) await new Promise((done) => setTimeout(done, 50))
    const [from, began] = [await ticks(), performance.now()]
    await new Promise((done) => setTimeout(done, quietMs))
    const millisecond = ((await ticks()) - from) / (performance.now() - began)
    const without = (await machine.word(guestWorst)) / millisecond
    let backups = 0
    for (const until = performance.now() + quietMs; performance.now() < until; backups += 1) {
      await ours.backup(...(backups % 3 === 0 ? ['--full'] : []))
    }
    const during = (await machine.word(guestWorst)) / millisecond
    return [
      { what: `the guest's longest write, in ${quietMs / 1000} s without a backup`, value: `${without.toFixed(1)} ms` },
      { what: `the guest's longest write, with ${backups} backups in the same time`, value: `${during.toFixed(1)} ms` },
      goal('longer by', during - without, '≤', 50, (ms) => `${ms.toFixed(1)} ms`),
    ]
  } finally {
    await machine.end()
    await rm(disk)
  }
}

/** The image as a running machine's disk, beside the same in a file. */
async function content(bench) {
  const { image, work, size } = bench
  const file = join(work, 'source.raw')
  const disk = join(work, 'disk.qcow2')
  await copyImage(image, file)
  await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', file, disk])
  await run('sync', [disk])
  const machine = await startMachine(work, { root: disk })
  try {
    const live = await setUp(bench, 'live', { tracker: 'qemu', qmp: machine.qmp })
    const still = await setUp(bench, 'still', { tracker: 'image', stores: { root: file } })
    const full = (ours) => async () => {
      await ours.reset()
      return await ours.backup()
    }
    const fulls = await contest(bench, { live: full(live), still: full(still) })
    const block = join(work, 'block')
    const { changed } = await contest(bench, { changed: () => live.backup('--incremental') }, async (round) => {
      for (const [offset, bytes] of await chooseBlocks(image, size.blocks, round + 1)) {
        await writeFile(block, bytes)
        await machine.write('root', block, offset, bytes.length)
      }
    })
    return [
      { what: 'full of a running machine', ...fulls.live },
      { what: 'full of the same in a file', ...fulls.still },
      goal('time, of that of the file', fulls.live.seconds / fulls.still.seconds, '≤', 1.25),
      ...memoryGoal('peak memory', fulls.live, 300),
      { what: `${size.blocks} blocks of 64 KiB of a running machine (${changed.mode})`, ...changed },
      goal('time', changed.seconds, '≤', 1.1, seconds),
      ...memoryGoal('peak memory', changed, 300),
    ]
  } finally {
    await machine.end()
    await rm(file)
    await rm(disk)
  }
}

/** What scattered writes of 4 KiB cost, by the granularity of the dirty bitmap. */
async function scattered(bench) {
  const { image, work } = bench
  const disk = join(work, 'disk.qcow2')
  const rows = []
  for (const granularity of granularities) {
    await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', image.path, disk])
    const machine = await startMachine(work, { root: disk })
    try {
      const ours = await setUp(bench, `at-${granularity}`, {
        tracker: 'qemu', qmp: machine.qmp, granularity: granularity * kib,
      })
      await ours.backup()
      await writeScattered(machine, image, work)
      const { storedBytes, seconds: took, peakBytes } = await ours.backup('--incremental')
      const perByte = storedBytes / (randomWrites * 4 * kib)
      const what = `${randomWrites} writes of 4 KiB, granularity ${granularity} KiB`
      rows.push({ what, seconds: took, peakBytes, storedBytes, value: `${perByte.toFixed(2)} stored for each changed byte` })
      if (granularity === defaultGranularity) rows.push(goal('stored for each changed byte, at the default', perByte, '≤', 2))
    } finally {
      await machine.end()
      await rm(disk)
    }
  }
  return rows
}

/** Content of the image itself, each piece at another place: it compresses as such content does. */
async function writeScattered(machine, image, work) {
  const source = await open(image.path, 'r')
  const places = Math.floor(image.sizeBytes / (4 * kib))
  const pieces = join(work, 'pieces')
  await mkdir(pieces, { recursive: true })
  let random = 1
  const next = () => (random = (Math.imul(random, 1664525) + 1013904223) >>> 0)
  const piece = Buffer.alloc(4 * kib)
  const path = join(pieces, 'piece')
  for (let written = 0; written < randomWrites; ) {
    await source.read(piece, 0, piece.length, (next() % places) * 4 * kib)
    if (piece.every((byte) => byte === 0)) continue
    await writeFile(path, piece)
    await machine.write('root', path, (next() % places) * 4 * kib, piece.length)
    written += 1
  }
  await source.close()
  await rm(pieces, { recursive: true })
}

