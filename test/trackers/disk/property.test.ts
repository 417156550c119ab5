import { join } from 'node:path'
import { expect, it } from 'vitest'
import { createDisk } from '../../../src/trackers/disk/create-disk.js'
import { type DiskCheckpoint, DiskSet } from '../../../src/trackers/disk/disk-set.js'
import { temporaryFolder } from '../../temporary.js'
import { expectAllocationTrue, expectChangesTold, readFrozen } from './frozen-checks.js'
import { ModelDisk } from './model-disk.js'
import { Random, runSeed } from './random.js'

const blockBytes = 4096
const regionBytes = 1024 * blockBytes

/** Runs a random program against a disk and its model; they must agree at every turn. */
class Program {
  readonly #random: Random
  readonly #folder: string
  readonly #model: ModelDisk
  readonly #log: string[] = []
  #live: { taken: DiskCheckpoint; content: Buffer }[] = []
  #set: DiskSet
  #place: string
  #names = 0
  #sequence = 0

  constructor(random: Random, folder: string, model: ModelDisk, set: DiskSet) {
    this.#random = random
    this.#folder = folder
    this.#model = model
    this.#set = set
    this.#place = set.folders[0] ?? ''
  }

  static async start(seed: number, folder: string): Promise<Program> {
    const random = new Random(seed)
    const sizeBytes = 512 * (1 + random.below((3 * regionBytes) / 512))
    await createDisk(folder, { sizeBytes, blockBytes })
    const set = await DiskSet.open([folder], { role: 'server' })
    return new Program(random, folder, new ModelDisk(sizeBytes, blockBytes), set)
  }

  async run(steps: number): Promise<void> {
    try {
      for (let step = 0; step < steps; step += 1) await this.#step()
      await this.#expectSame()
    } catch (error) {
      throw new Error(`after ${this.#log.slice(-40).join('; ')}: ${(error as Error).message}`, { cause: error })
    } finally {
      this.#releaseAll()
      await this.#set[Symbol.asyncDispose]()
    }
  }

  get #disk() {
    return this.#set.disk(this.#place)
  }

  async #step(): Promise<void> {
    const weights: [number, () => Promise<void>][] = [
      [30, () => this.#writes()],
      [5, () => this.#zero()],
      [4, () => this.#trim()],
      [4, () => this.#disk.flush()],
      [4, () => this.#expectSame()],
      [6, () => this.#checkpoint()],
      [5, () => this.#checkLive()],
      [4, async () => this.#releaseOne()],
      [2, () => this.#checkpointAs()],
      [1.5, () => this.#rollback()],
      [1.5, () => this.#merge()],
      [1.5, () => this.#resize()],
      [1.5, () => this.#reopen()],
      [1, () => this.#offline()],
    ]
    let at = this.#random.below(1000) / 1000 * weights.reduce((sum, [weight]) => sum + weight, 0)
    for (const [weight, action] of weights) {
      at -= weight
      if (at < 0) return action()
    }
  }

  /** A range within the disk, often near a few places, so that things meet. */
  #range(most: number): { offset: number; length: number } {
    const size = this.#model.content.length
    const unit = this.#random.chance(0.8) ? 512 : 1
    const length = Math.min(size, unit * (1 + this.#random.below(most / unit)))
    const near = this.#random.pick([0, regionBytes, size, Math.floor(size / 2)])
    const wanted = this.#random.chance(0.7) ? near - 40_000 + this.#random.below(80_000) : this.#random.below(size)
    const offset = Math.max(0, Math.min(size - length, wanted - (wanted % unit)))
    return { offset, length }
  }

  async #writes(): Promise<void> {
    const writes: Promise<void>[] = []
    const taken: { offset: number; length: number }[] = []
    for (let count = 1 + this.#random.below(5); count > 0; count -= 1) {
      const { offset, length } = this.#range(this.#random.pick([512, 2000, 9000, 70_000]))
      // Side by side only what does not overlap: of two writes to the same bytes, either may win.
      if (taken.some((other) => offset < other.offset + other.length && other.offset < offset + length)) continue
      taken.push({ offset, length })
      this.#sequence += 1
      const bytes = Buffer.alloc(length, `${this.#sequence},`)
      this.#log.push(`write ${offset}+${length}`)
      this.#model.write(bytes, offset)
      const cut = this.#random.below(length)
      writes.push(this.#disk.write([bytes.subarray(0, cut), bytes.subarray(cut)], offset))
    }
    if (this.#random.chance(0.2)) writes.push(this.#disk.flush())
    await Promise.all(writes)
  }

  async #zero(): Promise<void> {
    const { offset, length } = this.#range(this.#random.pick([512, 20_000, 2 * regionBytes]))
    this.#log.push(`zero ${offset}+${length}`)
    this.#model.zero(offset, length)
    await this.#disk.zero(offset, length)
  }

  async #trim(): Promise<void> {
    const { offset, length } = this.#range(this.#random.pick([9000, regionBytes]))
    this.#log.push(`trim ${offset}+${length}`)
    this.#model.trim(offset, length)
    await this.#disk.trim(offset, length)
  }

  async #expectSame(): Promise<void> {
    const content = Buffer.alloc(this.#model.content.length)
    await this.#disk.read(content, 0)
    expect(content.equals(this.#model.content)).toBe(true)
    const { offset, length } = this.#range(50_000)
    const part = Buffer.alloc(length)
    await this.#disk.read(part, offset)
    expect(part.equals(this.#model.content.subarray(offset, offset + length))).toBe(true)
  }

  async #take(): Promise<void> {
    this.#log.push('checkpoint')
    const taken = await this.#set.checkpoint([this.#place])
    this.#live.push({ taken, content: Buffer.from(this.#model.content) })
    const [frozen] = taken.disks
    if (frozen === undefined) throw new Error('no disk frozen')
    expectChangesTold(frozen, this.#model.content, this.#model.instants, { exact: true })
    this.#model.froze(frozen)
  }

  async #checkpoint(): Promise<void> {
    if (this.#live.length >= 3) this.#releaseOne()
    await this.#take()
  }

  async #checkLive(): Promise<void> {
    for (const { taken, content } of this.#live) {
      const [frozen] = taken.disks
      if (frozen === undefined) throw new Error('no disk frozen')
      expect(readFrozen(frozen).equals(content)).toBe(true)
      await expectAllocationTrue(frozen, content)
    }
  }

  #releaseOne(): void {
    const [first, ...rest] = this.#random.chance(0.5) ? this.#live : this.#live.toReversed()
    this.#live = rest
    if (first !== undefined) this.#log.push('release')
    first?.taken.release()
  }

  #releaseAll(): void {
    for (const { taken } of this.#live) taken.release()
    this.#live = []
  }

  async #checkpointAs(): Promise<void> {
    if (this.#model.named.size >= 3) return
    this.#names += 1
    const name = `n${this.#names}`
    this.#log.push(`checkpoint ${name}`)
    const { changeIds } = await this.#set.checkpointAs(name, [this.#place])
    this.#model.froze({ changeId: changeIds[0] ?? '' })
    this.#model.nameNow(name)
  }

  async #rollback(): Promise<void> {
    if (this.#model.named.size === 0) return
    this.#releaseAll()
    const name = this.#random.pick([...this.#model.named.keys()])
    this.#log.push(`rollback ${name}`)
    await this.#set.rollback(this.#place, name)
    this.#model.rollBack(name)
    await this.#expectSame()
  }

  async #merge(): Promise<void> {
    if (this.#model.named.size === 0) return
    const name = this.#random.pick([...this.#model.named.keys()])
    this.#log.push(`merge ${name}`)
    await this.#set.merge(this.#place, name)
    this.#model.named.delete(name)
    await this.#expectSame()
  }

  async #resize(): Promise<void> {
    if (this.#model.named.size > 0) return
    this.#releaseAll()
    const sizeBytes = 512 * (1 + this.#random.below((4 * regionBytes) / 512))
    this.#log.push(`resize ${this.#model.content.length} to ${sizeBytes}`)
    await this.#set.resize(this.#place, sizeBytes)
    this.#model.resize(sizeBytes)
    await this.#expectSame()
  }

  async #reopen(): Promise<void> {
    this.#releaseAll()
    this.#log.push('reopen')
    await this.#set[Symbol.asyncDispose]()
    this.#set = await DiskSet.open([this.#folder], { role: 'server' })
    await this.#expectSame()
  }

  /** A backup of the disk while nobody serves it. */
  async #offline(): Promise<void> {
    this.#releaseAll()
    this.#log.push('offline checkpoint')
    await this.#set[Symbol.asyncDispose]()
    this.#set = await DiskSet.open([this.#folder], { role: 'alone' })
    await this.#take()
    await this.#checkLive()
    this.#releaseAll()
    await this.#reopen()
  }
}

const seed = runSeed()
const programs = Number(process.env['REFPOINT_PROGRAMS'] ?? 8)

it(`holds what was written and tells what changed, over any sequence of operations (seed ${seed})`, async () => {
  for (let index = 0; index < programs; index += 1) {
    const program = await Program.start(seed + index, join(temporaryFolder(), 'disk'))
    await program.run(120).catch((error: unknown) => {
      throw new Error(`REFPOINT_SEED=${seed + index}: ${(error as Error).message}`, { cause: error })
    })
  }
})
