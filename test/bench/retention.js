import { randomBytes, randomUUID } from 'node:crypto'
import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { agent, buildRepository } from '../../dist/index.js'
import { encodeJson } from '../../dist/repository/json-object.js'
import { archiveName, pointName } from '../../dist/repository/layout.js'
import { openMachine } from '../../dist/repository/machine.js'
import { openRepository } from '../../dist/repository/open.js'
import { changeFile, chooseBlocks, randomNumbers } from './changes.js'
import { copyImage } from './image.js'
import { median, run, shell } from './measure.js'
import { setUp } from './refpoint.js'
import { goal, memoryGoal, seconds } from './table.js'

/** Folding a month of dailies; pruning and listing long histories; restoring after a year. */
export async function retention(bench) {
  return [...(await foldMonth(bench)), ...(await longHistories(bench)), ...(await afterAYear(bench))]
}

/** 30 dailies on a full, of which only the newest point is kept: all of it becomes one archive. */
export async function foldMonth(bench) {
  const { image, work } = bench
  const source = join(work, 'month.raw')
  await mkdir(work, { recursive: true })
  await copyImage(image, source)
  const ours = await setUp(bench, 'month', { tracker: 'image', stores: { root: source }, keep: { last: 1 } })
  await ours.backup()
  for (let day = 1; day <= 30; day += 1) {
    await changeFile(source, await dayOfChanges(bench, day))
    await ours.backup('--incremental')
    bench.log(`day ${day} of 30`)
  }
  const archives = join(ours.repository, 'machines/bench/archives')
  const kept = join(work, 'kept')
  await shell(`cp -a '${ours.repository}' '${kept}'; sync`)
  const folds = []
  const copies = []
  for (let round = 0; round < bench.runs; round += 1) {
    await rm(ours.repository, { recursive: true })
    await shell(`cp -a '${kept}' '${ours.repository}'; sync; cat '${archives}'/* > /dev/null`)
    folds.push(await ours.refpoint('prune', 'bench'))
    const [result, ...more] = await readdir(archives)
    if (result === undefined || more.length > 0) throw new Error(`${more.length + 1} archives are left`)
    const copy = join(work, 'copy')
    copies.push(await shell(`cp '${join(archives, result)}' '${copy}'; sync '${copy}'; rm '${copy}'`))
    bench.log(`fold ${folds.at(-1).seconds.toFixed(2)} s, copy ${copies.at(-1).seconds.toFixed(2)} s`)
  }
  await ours.refpoint('restore', 'bench', '--at', 'latest', '--to', join(work, 'out'))
  await shell(`cmp '${join(work, 'out/root.raw')}' '${source}'; rm -r '${join(work, 'out')}' '${kept}'`)
  const [result] = await readdir(archives)
  const { size: storedBytes } = await stat(join(archives, result))
  const fold = { seconds: median(folds.map((each) => each.seconds)), peakBytes: Math.max(...folds.map((each) => each.peakBytes)) }
  const copy = { seconds: median(copies.map((each) => each.seconds)) }
  return [
    { what: 'refpoint prune: 30 dailies and a full into one', ...fold, storedBytes },
    { what: 'cp and sync of the resulting archive', ...copy },
    goal('time, of copying', fold.seconds / copy.seconds, '≤', 1.5),
    ...memoryGoal('peak memory', fold, 300),
  ]
}

/** What a day writes: files of 1 MiB that are replaced, and blocks here and there. */
async function dayOfChanges({ image, size }, day) {
  const random = randomNumbers(day)
  const few = await chooseBlocks(image, Math.ceil(size.blocks / 4), day)
  const files = []
  for (const [offset, content] of await chooseBlocks(image, Math.ceil(size.blocks / 14), 1000 + day)) {
    for (let n = 0; n < 16; n += 1) {
      const at = offset + n * content.length
      if (at + content.length > image.sizeBytes) break
      const block = Buffer.from(content)
      block.writeDoubleLE(random(), 8 + n * 8)
      files.push([at, block])
    }
  }
  return [...few, ...files]
}

/** Histories of tiny points: what a command takes before it reads any archive. */
export async function longHistories(bench) {
  const many = await madeHistory(bench, 10_000)
  const points = await repeated(bench, () => many.refpoint('points', 'bench'))
  const dryRun = await repeated(bench, () => many.refpoint('prune', '--dry-run'))
  const times = []
  for (let round = 0; round < bench.runs; round += 1) {
    const thousand = await madeHistory(bench, 1000)
    times.push(await thousand.refpoint('prune'))
  }
  const prune = median(times.map((each) => each.seconds))
  return [
    { what: 'points, of 10,000', ...points },
    goal('time', points.seconds, '≤', 2, seconds),
    { what: 'prune --dry-run, of 10,000', ...dryRun },
    goal('time', dryRun.seconds, '≤', 2, seconds),
    { what: 'prune of 1,000 points, nothing to fold', seconds: prune },
    goal('time', prune, '≤', 2, seconds),
  ]
}

async function repeated(bench, measure) {
  const found = []
  for (let round = 0; round < bench.runs; round += 1) found.push(await measure())
  return { seconds: median(found.map((each) => each.seconds)), peakBytes: Math.max(...found.map((each) => each.peakBytes)) }
}

/** Hourly fulls with archives that nobody reads. */
async function madeHistory(bench, count) {
  await rm(join(bench.work, `history-${count}`), { recursive: true, force: true })
  const disk = join(bench.work, 'tiny.raw')
  await writeFile(disk, randomBytes(4096))
  const keep = { last: 7, hourly: 24, daily: 14, weekly: 8, monthly: 12, yearly: 5 }
  const ours = await setUp(bench, `history-${count}`, { tracker: 'image', stores: { root: disk }, keep })
  await ours.backup()
  const repository = await buildRepository({ path: ours.repository })
  const { id } = await openRepository(repository)
  const { uuid } = await openMachine(repository, 'bench', { create: false })
  const first = JSON.parse(await readFile(join(ours.repository, pointName('bench', 1)), 'utf8'))
  for (let point = 2; point <= count; point += 1) {
    const time = new Date(Date.UTC(2025, 0, 1) + point * 3_600_000).toISOString()
    const name = archiveName('bench', randomUUID())
    const archive = { ...first.archive, name, bytes: 4 }
    const manifest = { ...first, repositoryId: id, machineUuid: uuid, agent, point, nonce: randomUUID(), time, wholeAt: time, archive }
    await writeFile(join(ours.repository, name), 'tiny', { mode: 0o600 })
    await writeFile(join(ours.repository, pointName('bench', point)), encodeJson(manifest), { mode: 0o600 })
  }
  return ours
}

/** A year of dailies, pruned every night: the newest point, beside a fresh full of the same disk. */
export async function afterAYear(bench) {
  const { work, size } = bench
  const source = join(work, 'year.raw')
  const program = join(import.meta.dirname, 'live-a-year.js')
  const repository = join(work, 'year')
  await run(bench.node, [program, source, repository, String(size.year.days), String(size.year.bytes)])
  const fresh = await setUp(bench, 'fresh', { tracker: 'image', stores: { root: source } })
  await fresh.backup()
  const target = join(work, 'restored')
  const restoreFrom = async (from, machine) => {
    const ran = await fresh.refpoint('restore', machine, '--at', 'latest', '--to', target, '--repository', from)
    await shell(`cmp '${target}/root.raw' '${source}'; rm -r '${target}'`)
    return ran
  }
  const ours = []
  const theirs = []
  for (let round = 0; round < bench.runs; round += 1) {
    ours.push(await restoreFrom(repository, 'bench'))
    theirs.push(await restoreFrom(fresh.repository, 'bench'))
  }
  const year = median(ours.map((each) => each.seconds))
  const full = median(theirs.map((each) => each.seconds))
  const archives = await readdir(join(repository, 'machines/bench/archives'))
  return [
    { what: `restore after ${size.year.days} days, ${archives.length} archives`, seconds: year },
    { what: 'restore of a fresh full', seconds: full },
    goal('time, of a fresh full', year / full, '≤', 1.3),
  ]
}
