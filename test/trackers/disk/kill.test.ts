import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { createDisk } from '../../../src/trackers/disk/create-disk.js'
import { accessDisks, type DiskAccess } from '../../../src/trackers/disk/disk-access.js'
import { describeWith } from '../../layers.js'
import { temporaryFolder } from '../../temporary.js'
import { expectChangesTold, readFrozen } from './frozen-checks.js'
import { KillLoad } from './kill-load.js'
import type { Instant } from './model-disk.js'
import { Random, runSeed } from './random.js'
import { ServerProcess } from './server-process.js'

const sizeBytes = 32 * 1024 * 1024

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
const kills = process.env['REFPOINT_LONG'] === '1' ? 200 : 20

describeWith(['libnbd'], 'kill -9 of the disk server while a client of libnbd writes', () => {
  it(`loses nothing flushed and no change in ${kills} kills (seed ${seed})`, async () => {
    const root = temporaryFolder()
    const folder = join(root, 'disk')
    await createDisk(folder, { sizeBytes, blockBytes: 4096 })
    mkdirSync(join(root, 'run'), { mode: 0o700 })
    const socket = join(root, 'run', 'nbd.sock')
    const uri = `nbd+unix:///disk?socket=${socket}`
    const random = new Random(seed)
    const instants: Instant[] = []
    let before: KillLoad | undefined
    let sequence = 0
    for (let round = 0; round < kills; round += 1) {
      const server = await ServerProcess.start(socket, [folder])
      const access = await accessDisks([folder])
      const quiet = await access.checkpoint()
      const [frozen] = quiet.disks
      if (frozen === undefined) throw new Error('no disk frozen')
      const content = readFrozen(frozen)
      expectChangesTold(frozen, content, instants, { exact: false })
      quiet.release()

      const load = await KillLoad.start({ seed: seed + round, sequence, uri, file: join(root, 'content') })
      expect(load.content.equals(content)).toBe(true)
      before?.history.expectLegal(content, Infinity)
      before = load
      const failures: unknown[] = []
      const backups = checkpointUntilGone(access, instants, random).catch((error: unknown) => failures.push(error))
      await new Promise((resolve) => setTimeout(resolve, 30 + random.below(400)))
      await server.kill()
      await backups
      const last = await load.gone
      expect(last, `writes of round ${round}`).toBeGreaterThan(sequence)
      sequence = last
      await access[Symbol.asyncDispose]()
      // The checkpoint that was under way failed, and said that its server is gone.
      expect(failures).toHaveLength(1)
      expect(failures[0]).toMatchObject({ code: 'tracker' })
    }
  }, 3_600_000)
})
