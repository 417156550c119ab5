import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { createDisk } from '../../../src/trackers/disk/create-disk.js'
import { parseChangeId } from '../../../src/trackers/disk/change-id.js'
import { type DiskCheckpoint, DiskSet, type FrozenDisk } from '../../../src/trackers/disk/disk-set.js'
import { readNonce } from '../../../src/trackers/disk/generations.js'
import { type CrashState, crashStates, materialise } from '../../crash-states.js'
import { type Recording, recordFiles } from '../../recording-files.js'
import { temporaryFolder } from '../../temporary.js'
import { changedBlocks } from './frozen-checks.js'
import { differingBlocks } from './model-disk.js'
import { Random, runSeed } from './random.js'
import { SectorHistory, sectorsOf } from './sector-history.js'

const blockBytes = 4096
const regionBytes = 1024 * blockBytes
const sizeBytes = regionBytes + 16 * blockBytes

interface NamedInstant {
  readonly changeId: string
  readonly content: Buffer
  readonly told: number
}

/** A random program on a recorded disk, and what is promised about every crash during it. */
class RecordedProgram {
  readonly recording: Recording
  readonly history = new SectorHistory(sizeBytes)
  readonly instants: NamedInstant[] = []
  begun = 0
  readonly #random: Random
  readonly #set: DiskSet
  readonly #place: string
  readonly #named = new Map<string, number[]>()
  #live: DiskCheckpoint[] = []
  #sequence = 0

  constructor(random: Random, recording: Recording, set: DiskSet) {
    this.#random = random
    this.recording = recording
    this.#set = set
    this.#place = set.folders[0] ?? ''
    this.begun = recording.now()
  }

  static async start(seed: number): Promise<RecordedProgram> {
    const root = temporaryFolder()
    const recording = recordFiles(root)
    const { files } = recording
    await createDisk(join(root, 'disk'), { sizeBytes, blockBytes, files })
    const set = await DiskSet.open([join(root, 'disk')], { role: 'server', files })
    return new RecordedProgram(new Random(seed), recording, set)
  }

  async run(steps: number): Promise<void> {
    const actions = [
      () => this.#write(),
      () => this.#write(),
      () => this.#write(),
      () => this.#write(),
      () => this.#zero(),
      () => this.#flush(),
      () => this.#checkpoint(),
      async () => this.#release(),
      async () => this.#release(),
      () => this.#checkpointAs(),
      () => this.#rollback(),
      () => this.#merge(),
    ]
    // Half of the programs work above a user's checkpoint, where overlays live through several generations.
    if (this.#random.chance(0.5)) await this.#checkpointAs()
    for (let step = 0; step < steps; step += 1) await this.#random.pick(actions)()
    for (const live of this.#live) live.release()
    const begun = this.recording.now()
    await this.#set[Symbol.asyncDispose]()
    this.history.flush(begun, this.recording.now())
  }

  #place512(most: number): { offset: number; sectors: number } {
    const sectors = 1 + this.#random.below(most)
    const near = this.#random.pick([0, regionBytes])
    const offset = Math.max(0, near + (this.#random.below(60) - 30) * 512)
    return { offset, sectors: Math.min(sectors, (sizeBytes - offset) / 512) }
  }

  async #write(): Promise<void> {
    const { offset, sectors } = this.#place512(this.#random.pick([1, 3, 20]))
    const values = Array.from({ length: sectors }, () => (this.#sequence += 1))
    const ended = this.history.write(offset, values, this.recording.now())
    await this.#set.disk(this.#place).write([sectorsOf(values)], offset)
    ended(this.recording.now())
  }

  async #zero(): Promise<void> {
    const { offset, sectors } = this.#place512(30)
    const ended = this.history.write(offset, Array.from({ length: sectors }, () => 0), this.recording.now())
    await this.#set.disk(this.#place).zero(offset, sectors * 512)
    ended(this.recording.now())
  }

  async #flush(): Promise<void> {
    const begun = this.recording.now()
    await this.#set.disk(this.#place).flush()
    this.history.flush(begun, this.recording.now())
  }

  async #checkpoint(): Promise<void> {
    if (this.#live.length > 1) return
    const begun = this.recording.now()
    const taken = await this.#set.checkpoint([this.#place])
    this.history.flush(begun, this.recording.now())
    this.#live.push(taken)
    this.#note(taken.disks[0]?.changeId)
  }

  #note(changeId: string | undefined): void {
    if (changeId === undefined) throw new Error('no change ID')
    this.instants.push({ changeId, content: sectorsOf(this.history.values()), told: this.recording.now() })
  }

  #release(): void {
    this.#live.shift()?.release()
  }

  async #checkpointAs(): Promise<void> {
    if (this.#named.size > 1) return
    const name = `n${this.instants.length}`
    const begun = this.recording.now()
    const { changeIds } = await this.#set.checkpointAs(name, [this.#place])
    this.history.flush(begun, this.recording.now())
    this.#named.set(name, this.history.values())
    this.#note(changeIds[0])
  }

  async #rollback(): Promise<void> {
    const [name, values] = [...this.#named].at(-1) ?? []
    if (name === undefined || values === undefined) return
    for (const live of this.#live) live.release()
    this.#live = []
    const ended = this.history.write(0, values, this.recording.now())
    await this.#set.rollback(this.#place, name)
    ended(this.recording.now())
    this.history.flush(this.recording.now(), this.recording.now())
  }

  async #merge(): Promise<void> {
    const [name] = [...this.#named].at(0) ?? []
    if (name === undefined) return
    this.#named.delete(name)
    await this.#set.merge(this.#place, name)
  }

  /** Opens the disk as a crash left it, and checks every promise. */
  async check(state: CrashState): Promise<void> {
    const folder = temporaryFolder()
    materialise(this.recording, state, folder)
    const place = join(folder, 'disk')
    // A recording does not really sync, which is what takes the time here.
    const { files } = recordFiles(folder)
    const set = await DiskSet.open([place], { role: 'server', files })
    try {
      const disk = set.disk(set.folders[0] ?? '')
      const content = Buffer.alloc(sizeBytes)
      await disk.read(content, 0)
      this.history.expectLegal(content, state.cut)

      // Nothing that was lost comes back when its neighbours are written, or when layers are merged.
      const probe = sectorsOf([0xffffffff])
      for (const offset of [5 * blockBytes, regionBytes + 5 * blockBytes]) {
        await disk.write([probe], offset)
        probe.copy(content, offset)
      }
      await disk.flush()
      await this.#expectContent(set, content)
      const taken = await set.checkpoint(set.folders)
      await this.#expectChanges(taken.disks[0], content, state.cut)
      taken.release()
      while (disk.stack.layers.length > disk.file.layers.filter(({ name }) => name !== undefined).length + 1) {
        await new Promise((resolve) => setTimeout(resolve, 1))
      }
      await this.#expectContent(set, content)
    } finally {
      await set[Symbol.asyncDispose]()
      rmSync(folder, { recursive: true })
      mkdirSync(folder)
    }
  }

  async #expectContent(set: DiskSet, expected: Buffer): Promise<void> {
    const content = Buffer.alloc(sizeBytes)
    await set.disk(set.folders[0] ?? '').read(content, 0)
    expect(differingBlocks(content, expected, blockBytes)).toEqual([])
  }

  async #expectChanges(frozen: FrozenDisk | undefined, content: Buffer, cut: number): Promise<void> {
    if (frozen === undefined) throw new Error('no disk frozen')
    for (const { changeId, content: then, told } of this.instants) {
      if (told > cut) continue
      const id = parseChangeId(changeId)
      expect(await readNonce(this.recording.files, frozen.folder, id?.generation ?? 0)).toBe(id?.nonce)
      const reported = changedBlocks(frozen, changeId)
      expect(differingBlocks(content, then, blockBytes).filter((block) => !reported.has(block))).toEqual([])
    }
  }
}

const seed = runSeed()
const programs = Number(process.env['REFPOINT_PROGRAMS'] ?? 10)
const states = Number(process.env['REFPOINT_STATES'] ?? 20)

it(`loses nothing flushed and no change when the power goes (seed ${seed})`, async () => {
  for (let index = 0; index < programs; index += 1) {
    const program = await RecordedProgram.start(seed + index)
    await program.run(30)
    const options = { seed: seed + index, from: program.begun, random: 2, limit: states }
    for (const state of crashStates(program.recording, options)) {
      await program.check(state).catch((error: unknown) => {
        const what = `REFPOINT_SEED=${seed + index}, cut ${state.cut}, luck ${state.luck}`
        throw new Error(`${what}: ${(error as Error).message}`, { cause: error })
      })
    }
  }
})
