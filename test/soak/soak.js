import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { buildEnvironment } from '../../dist/compose.js'
import { parentOf } from '../../dist/model/fold-plan.js'
import { backupMachine } from '../../dist/operations/backup/backup.js'
import { holdPoint, releasePoint } from '../../dist/operations/prune/hold.js'
import { pruneMachine } from '../../dist/operations/prune/prune.js'
import { restorePoint } from '../../dist/operations/restore/restore.js'
import { verify } from '../../dist/operations/verify/verify.js'
import { initRepository } from '../../dist/repository/init.js'
import { localRepository } from '../../dist/repository/local/local-repository.js'
import { readManifests } from '../../dist/repository/manifests.js'
import { pinMachine } from '../../dist/repository/pin.js'
import { Disk, unitBytes } from './disk.js'
import { createFaultyRepository, Killed } from './faults.js'
import { Ideal } from './ideal.js'
import { liveAnHour } from './life.js'
import { makeLie } from './lies.js'
import { createDice } from './random.js'
import { createSimulatedTracker } from './tracker.js'

/*
 * Years of a machine in minutes: an hour is a backup, a night is a prune. Archives, folds and restores are real, the
 * clock and the disks are not. The first lie ends it: a point that restores to anything but what it must, one that is
 * gone and should not be, space or chains beyond what the policy promises (src/model/fold-plan.ts), a tracker that lied
 * and was not caught.
 */

const machine = 'soak'
const mebibyte = 1024 * 1024
const hourMs = 3_600_000
const rules = { last: 7, hourly: 24, daily: 14, weekly: 8, monthly: 12, yearly: 5 }
/** Stands for the mebibyte of a real disk, as these disks stand for real ones. */
const archiveCostBytes = 16 * 1024
/** A lie is caught when the audit comes by: a budget of a fifth of the disks for each run, and a few runs are not tracked. */
export const caughtWithinRuns = 16
/** All archives, of what no policy could do without. Of a run at most as much again is dead, of a full a third. */
export const spaceBound = 2
const ttlMs = 250
/** Expected of a disk in a point of which a block can't have its digest, since a part of it was kept back: to be told. */
const damaged = 'damaged'

export class Soak {
  #hour = 0
  #run = 0
  #lieHours = new Map()
  #expected = new Map()
  #held = undefined
  #shift = 0
  #figures = { runs: 0, prunes: 0, folds: 0, kills: 0, failures: 0, lies: 0, damaged: 0, lost: 0, restores: 0, worstSpace: 0, longestChain: 0, slowestCatch: 0, movedBytes: 0, takenBytes: 0 }

  constructor({ folder, seed, scale = 1, forge = false, audit = true, log = () => {} }) {
    this.folder = folder
    this.seed = seed
    this.forge = forge
    this.audit = audit
    this.log = log
    this.dice = createDice(seed)
    mkdirSync(folder, { recursive: true })
    const disk = (name, bytes) => new Disk(name, join(folder, `${name}.img`), bytes, this.dice)
    this.disks = [disk('root', 4 * mebibyte * scale), disk('data', 2 * mebibyte * scale + 512)]
    this.disks[1].largestBytes = 3 * mebibyte * scale
    this.clock = { now: () => Date.UTC(2026, 0, 1) + this.#hour * hourMs + this.#shift }
    this.bad = { run: 0, killAfter: undefined, full: false }
    this.ideal = new Ideal()
    this.signal = new AbortController().signal
  }

  async run(days) {
    const repository = localRepository(join(this.folder, 'repository'), { create: true })
    await initRepository(repository)
    this.repository = repository
    this.openAs = createFaultyRepository(repository, this.bad, this.dice)
    this.environment = {
      ...(await buildEnvironment(repository, { workers: 1, memoryBytes: 16 * mebibyte, command: 'soak' })),
      ttlMs,
    }
    for (const disk of this.disks) disk.write(0, this.dice.fill(Buffer.alloc(Math.floor(disk.sizeBytes / 2 / 512) * 512)))
    try {
      for (let day = 0; day < days; day += 1) {
        for (let hour = 0; hour < 24; hour += 1) await this.#liveAnHour()
        await this.#night(day)
        if (day % 7 === 6) await this.#checkSome(2)
      }
      await this.#checkAll()
      return this.#figures
    } catch (error) {
      throw new Error(`seed ${this.seed}, day ${Math.floor(this.#hour / 24)}, hour ${this.#hour % 24}: ${error.message}`, { cause: error })
    } finally {
      for (const disk of this.disks) disk.close()
      await this.environment.pool[Symbol.asyncDispose]()
    }
  }

  async #liveAnHour() {
    this.#hour += 1
    const { dice } = this
    liveAnHour(this.disks, dice, this.#hour)
    // The clock steps: a day back, three ahead, and right again after a while.
    if (dice.chance(0.003)) this.#shift = dice.pick([-24, -1, 1, 72]) * hourMs
    else if (dice.chance(0.05)) this.#shift = 0
    if (dice.chance(0.03)) this.#tellALie()
    await this.#backup()
  }

  #tellALie() {
    const disk = this.dice.pick(this.disks)
    if (this.#lieHours.has(disk.name)) return
    const { offset, bytes } = makeLie(disk, this.dice)
    disk.lie(offset, bytes)
    this.#figures.lies += 1
  }

  async #backup() {
    const { dice, bad } = this
    const mood = { lost: dice.chance(0.01), fail: dice.chance(0.01) }
    bad.full = dice.chance(0.01)
    bad.killAfter = dice.chance(0.04) ? dice.below(8) : undefined
    const { tracker, told } = createSimulatedTracker(this.disks, this.clock, mood)
    if (mood.lost) this.#figures.lost += 1
    const report = await this.#attempt(async (environment) =>
      backupMachine(
        environment,
        {
          name: machine,
          trackerName: 'soak',
          tracker,
          files: {},
          level: 1,
          concurrentStores: 2,
          audit: !this.audit ? { bytes: 0, milliseconds: 0 } : { bytes: Math.ceil(this.disks.reduce((sum, disk) => sum + disk.sizeBytes, 0) / 5), milliseconds: 60_000 },
        },
        { request: 'auto', signal: this.signal },
      ),
    )
    await this.#takeIn(report?.manifest, told)
  }

  /** Works out what a committed point must restore to; one that was killed may have been committed all the same. */
  async #takeIn(manifest, told) {
    const { points } = await readManifests(this.repository, machine)
    const newest = points.at(-1)
    if (newest === undefined || this.#expected.has(newest.point)) {
      if (manifest !== undefined) throw new Error(`point #${manifest.point} was reported and is not there`)
      return
    }
    this.#figures.runs += 1
    this.#figures.takenBytes += newest.archive.bytes
    const dirty = new Map()
    for (const disk of this.disks) {
      const { mode } = newest.stores.find(({ name }) => name === disk.name)
      const ranges = mode === 'tracked' || mode === 'refined' ? told.get(disk.name) : undefined
      dirty.set(disk.name, disk.committed(ranges))
      const known = this.#lieHours.get(disk.name)
      if (!disk.isLiedAbout) {
        if (known !== undefined) this.#figures.slowestCatch = Math.max(this.#figures.slowestCatch, this.#figures.runs - known)
        this.#lieHours.delete(disk.name)
      } else if (known === undefined) this.#lieHours.set(disk.name, this.#figures.runs)
      else if (this.#figures.runs - known > caughtWithinRuns) throw new Error(`a lie about ${disk.name} was not caught in ${caughtWithinRuns} runs`)
    }
    const forged = this.forge && this.#figures.runs === 30
    const expected = this.disks.map((disk) => [disk.name, forged ? 'forged' : disk.isRestorable ? digestOf(disk.stored) : damaged])
    this.#expected.set(newest.point, new Map(expected))
    if (expected.some(([, what]) => what === damaged)) this.#figures.damaged += 1
    const held = this.disks.reduce((sum, disk) => sum + countHeld(disk.stored), 0)
    this.ideal.add(newest.point, dirty, held)
  }

  async #night(day) {
    const { dice, bad } = this
    bad.full = dice.chance(0.05)
    bad.killAfter = dice.chance(0.25) ? dice.below(40) : undefined
    await this.#changeHold()
    const reader = dice.chance(0.2) ? await pinMachine(this.repository, machine, { command: 'soak', ttlMs: 60_000 }) : undefined
    const report = await this.#attempt(async (environment) =>
      pruneMachine(
        environment,
        { machine, rules, zone: 'UTC', level: 1, archiveCostBytes },
        { signal: this.signal, onEvent: (event) => void (event.type === 'fold' && (this.#figures.folds += 1)) },
      ),
    )
    this.#figures.prunes += 1
    this.#figures.movedBytes += report?.writtenBytes ?? 0
    if (reader !== undefined) {
      if (report !== undefined) await reader.assertHeld()
      await reader[Symbol.asyncDispose]()
    }
    await this.#checkHistory(report, day)
  }

  /** Now and then a point is held, and released some nights later. */
  async #changeHold() {
    const { dice } = this
    const environment = { ...this.environment, repository: this.repository }
    if (this.#held !== undefined && dice.chance(0.1)) {
      await this.#patiently(() => releasePoint(environment, machine, this.#held))
      this.#held = undefined
    } else if (this.#held === undefined && dice.chance(0.05)) {
      const point = dice.pick([...this.#expected.keys()])
      await this.#patiently(() => holdPoint(environment, machine, { when: { kind: 'point', point }, why: 'soak' }, this.signal))
      this.#held = point
    }
  }

  async #checkHistory(report, day) {
    const { points, problems } = await readManifests(this.repository, machine)
    if (problems.length > 0) throw new Error(`the history is damaged: ${problems[0].message}`)
    const there = new Set(points.map(({ point }) => point))
    const known = [...this.#expected.keys()]
    const newest = known.slice(-rules.last)
    for (const point of newest) if (!there.has(point)) throw new Error(`point #${point} is one of the last ${rules.last} and is gone`)
    if (this.#held !== undefined && !there.has(this.#held)) throw new Error(`point #${this.#held} was held and is gone`)
    for (const point of known) if (!there.has(point)) this.#expected.delete(point)
    if (report === undefined) return
    const dropped = new Set(report.plan.dropped)
    for (const { point, reasons } of report.plan.points) {
      if (there.has(point) === dropped.has(point)) throw new Error(`the prune told a lie about point #${point}`)
      if (reasons.length > 0 && dropped.has(point)) throw new Error(`point #${point} was kept by ${reasons} and is gone`)
    }
    this.#checkSpace(points, report)
    if (day % 30 === 29) this.log(`day ${day + 1}: ${points.length} points, ${JSON.stringify(this.#figures)}`)
  }

  /** What src/model/fold-plan.ts promises, and what it comes to. */
  #checkSpace(points, report) {
    const kept = new Set(report.plan.points.filter(({ reasons }) => reasons.length > 0).map(({ point }) => point))
    this.ideal.keep(kept)
    const bytes = points.reduce((sum, { archive }) => sum + archive.bytes, 0)
    const ideal = this.ideal.bytes + points.length * archiveCostBytes
    this.#figures.worstSpace = Math.max(this.#figures.worstSpace, bytes / ideal)
    if (bytes > ideal * spaceBound) throw new Error(`${bytes} bytes are stored, more than ${spaceBound} times the ideal ${ideal}`)

    const bySlot = new Map(points.map((point) => [point.point, point]))
    let run = []
    let chain = 0
    for (let at = points.at(-1); at !== undefined; at = bySlot.get(parentOf(at))) {
      chain += 1
      if (kept.has(at.point)) run = []
      run.push(at)
      const largest = Math.max(archiveCostBytes, ...run.map(({ archive }) => archive.bytes)) / archiveCostBytes
      // The full at the end of a chain is no member of its run.
      const members = parentOf(at) === null ? run.length - 1 : run.length
      if (members > Math.log2(largest) + 1.01 && run.length > 1) throw new Error(`a run of ${members} archives, the largest ${largest} units`)
    }
    this.#figures.longestChain = Math.max(this.#figures.longestChain, chain)
  }

  async #checkSome(count) {
    const points = [...this.#expected.keys()]
    for (let n = 0; n < count; n += 1) await this.#restore(this.dice.pick(points))
  }

  async #checkAll() {
    for (const point of this.#expected.keys()) await this.#restore(point)
    const { findings } = await verify(this.environment, { machine, point: undefined, quick: false }, { signal: this.signal })
    const broken = new Set([...this.#expected].filter(([, disks]) => [...disks.values()].includes(damaged)).map(([slot]) => slot))
    const unexpected = findings.find(({ point }) => !broken.has(point))
    if (unexpected !== undefined) throw new Error(`verify found damage: ${unexpected.what}`)
    for (const slot of broken) {
      if (!findings.some(({ affects }) => affects.includes(slot))) throw new Error(`verify did not find that point #${slot} is damaged`)
    }
  }

  async #restore(slot) {
    const { points } = await readManifests(this.repository, machine)
    const point = points.find((each) => each.point === slot)
    if (point === undefined) throw new Error(`point #${slot} is gone`)
    const folder = join(this.folder, 'restored')
    const request = { point, points, stores: undefined, to: { folder }, force: false, concurrentStores: 2 }
    const lost = [...this.#expected.get(slot).values()].includes(damaged)
    const error = await restorePoint(this.environment, request, { signal: this.signal }).then(() => undefined, (reason) => reason)
    if (error !== undefined && !(lost && error.code === 'damaged')) throw error
    if (lost && error === undefined) throw new Error(`point #${slot} is damaged, and was restored without a word`)
    for (const [name, digest] of this.#expected.get(slot)) {
      if (digest !== damaged && error === undefined && digestOf(readFileSync(join(folder, `${name}.raw`))) !== digest) throw new Error(`point #${slot}: ${name} is not what it was`)
    }
    rmSync(folder, { recursive: true, force: true })
    this.#figures.restores += 1
  }

  /** One process: what it leaves when it is killed, its successor finds. Undefined when it failed as it should. */
  async #attempt(action) {
    return await this.#patiently(async () => {
      const run = ++this.#run
      this.bad.run = run
      const environment = { ...this.environment, repository: this.openAs(run) }
      try {
        return await action(environment)
      } catch (error) {
        if (hasCause(error, (each) => each instanceof Killed) || this.bad.run !== run) {
          this.#figures.kills += 1
          return undefined
        }
        if (this.bad.full && error.code === 'io') return this.#failed()
        if (error.message === 'the soak made the run fail') return this.#failed()
        throw error
      } finally {
        this.bad.run = undefined
      }
    })
  }

  #failed() {
    this.#figures.failures += 1
    return undefined
  }

  /** A killed run's lease ends by itself: this process is the same, so that nobody sees that it is dead. */
  async #patiently(action) {
    for (;;) {
      try {
        return await action()
      } catch (error) {
        if (error.code !== 'locked') throw error
        await setTimeout(ttlMs / 5)
      }
    }
  }
}

function hasCause(error, matches) {
  for (let at = error; at instanceof Error; at = at.cause) if (matches(at)) return true
  return false
}

function digestOf(bytes) {
  return createHash('sha256').update(bytes).digest('hex')
}

function countHeld(content) {
  const zero = Buffer.alloc(unitBytes)
  let units = 0
  for (let at = 0; at < content.length; at += unitBytes) {
    const unit = content.subarray(at, at + unitBytes)
    if (unit.compare(zero, 0, unit.length) !== 0) units += 1
  }
  return units
}
