import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { connectNbd, type NbdClient } from '../../../src/nbd/client.js'
import { createDisk } from '../../../src/trackers/disk/create-disk.js'
import { accessDisks, type DiskAccess } from '../../../src/trackers/disk/disk-access.js'
import { temporaryFolder } from '../../temporary.js'
import { expectChangesTold, readFrozen } from './frozen-checks.js'
import type { Instant } from './model-disk.js'
import { Random, runSeed } from './random.js'
import { SectorHistory, sectorsOf } from './sector-history.js'
import { ServerProcess } from './server-process.js'

const sizeBytes = 32 * 1024 * 1024
const writers = 6
/** Not whole blocks, so that writers meet within blocks. */
const stripeSectors = Math.floor(sizeBytes / 512 / writers)

/** Writes until the server dies, noting what was acknowledged and what was flushed. */
class Load {
  history = new SectorHistory(sizeBytes)
  readonly #random: Random
  #moment = 0
  #sequence = 0

  constructor(random: Random) {
    this.#random = random
  }

  async untilGone(client: NbdClient): Promise<void> {
    const loops = Array.from({ length: writers }, (_, writer) => this.#write(client, writer))
    await Promise.allSettled([...loops, this.#flush(client)])
  }

  async #write(client: NbdClient, writer: number): Promise<never> {
    for (;;) {
      const sectors = this.#random.pick([1, 3, 8, 40, 200])
      // Most writes meet in a few places.
      const within = this.#random.chance(0.7) ? this.#random.below(300) : this.#random.below(stripeSectors - sectors)
      const offset = (writer * stripeSectors + within) * 512
      const zero = this.#random.chance(0.15)
      const values = Array.from({ length: sectors }, () => (zero ? 0 : (this.#sequence += 1)))
      const ended = this.history.write(offset, values, (this.#moment += 1))
      if (zero) await client.zero(offset, sectors * 512, { punch: true })
      else await client.write(sectorsOf(values), offset)
      ended((this.#moment += 1))
    }
  }

  async #flush(client: NbdClient): Promise<never> {
    for (;;) {
      await new Promise((resolve) => setTimeout(resolve, this.#random.below(40)))
      const begun = (this.#moment += 1)
      await client.flush()
      this.history.flush(begun, (this.#moment += 1))
    }
  }
}

/** Takes checkpoints while it is written to, until the server dies. Every one stays as it was while it is held. */
async function checkpointUntilGone(access: DiskAccess, instants: Instant[], random: Random): Promise<never> {
  for (;;) {
    const taken = await access.checkpoint()
    const [frozen] = taken.disks
    if (frozen === undefined) throw new Error('no disk frozen')
    const content = readFrozen(frozen)
    expectChangesTold(frozen, content, instants, { exact: false })
    const again = readFrozen(frozen)
    access.assertHeld()
    expect(again.equals(content)).toBe(true)
    instants.push({ changeId: frozen.changeId, content, touched: new Set() })
    if (instants.length > 6) instants.splice(random.below(3), 1)
    taken.release()
    await new Promise((resolve) => setTimeout(resolve, random.below(60)))
  }
}

const seed = runSeed()
const kills = Number(process.env['REFPOINT_KILLS'] ?? 20)

it(`loses nothing flushed and no change in ${kills} kills of the server under load (seed ${seed})`, async () => {
  const root = temporaryFolder()
  const folder = join(root, 'disk')
  await createDisk(folder, { sizeBytes, blockBytes: 4096 })
  mkdirSync(join(root, 'run'), { mode: 0o700 })
  const socket = join(root, 'run', 'nbd.sock')
  const random = new Random(seed)
  const load = new Load(random)
  const instants: Instant[] = []
  for (let round = 0; round < kills; round += 1) {
    const server = await ServerProcess.start(socket, [folder])
    const client = await connectNbd({ path: socket }, { exportName: 'disk' })
    const content = Buffer.alloc(sizeBytes)
    await client.read(content, 0)
    load.history.expectLegal(content, Infinity)
    load.history = SectorHistory.of(content)

    const access = await accessDisks([folder])
    const taken = await access.checkpoint()
    const [frozen] = taken.disks
    if (frozen === undefined) throw new Error('no disk frozen')
    expect(readFrozen(frozen).equals(content)).toBe(true)
    expectChangesTold(frozen, content, instants, { exact: false })
    taken.release()

    const failures: unknown[] = []
    const backups = checkpointUntilGone(access, instants, random).catch((error: unknown) => failures.push(error))
    const writing = load.untilGone(client)
    await new Promise((resolve) => setTimeout(resolve, 30 + random.below(400)))
    await server.kill()
    await Promise.all([backups, writing])
    await access[Symbol.asyncDispose]()
    // The checkpoint that was under way failed, and said that its server is gone.
    expect(failures).toHaveLength(1)
    expect(failures[0]).toMatchObject({ code: 'tracker' })
  }
}, 600_000)
