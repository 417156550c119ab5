import { expect, it } from 'vitest'
import { commitSlot } from '../../src/repository/commit.js'
import type { LeaseClock } from '../../src/repository/lease-clock.js'
import { acquireLease } from '../../src/repository/lease.js'
import { localRepository } from '../../src/repository/local/local-repository.js'
import { openMachine } from '../../src/repository/machine.js'
import { readManifests } from '../../src/repository/manifests.js'
import type { ProcessIdentity } from '../../src/repository/process-identity.js'
import { crashStates, materialise } from '../crash-states.js'
import { recordFiles } from '../recording-files.js'
import { temporaryFolder } from '../temporary.js'
import { pointManifest } from './manifest.js'

const seed = Number(process.env['REFPOINT_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
const machineOptions = { create: true, hostId: '' }

/** After the power cut the host has booted anew: another realm, and nobody is there to renew anything. */
const afterBoot: ProcessIdentity = { host: 'here', realm: 'after the boot', pid: 1, start: '1' }

/** Time that passes as fast as somebody waits for it; background renewals never come. */
function eagerClock(): LeaseClock {
  let now = 0
  return {
    now: () => now,
    async sleep(ms, { background, signal }) {
      if (background) await new Promise((_, reject) => signal?.addEventListener('abort', reject))
      now += ms
    },
  }
}

it(`a power cut at any moment of a run leaves a repository that the next run goes on from (seed ${seed})`, async () => {
  const folder = temporaryFolder()
  const recording = recordFiles(folder)
  const repository = localRepository(folder, { files: recording.files })
  const { uuid } = await openMachine(repository, 'web01', machineOptions)
  const recorded = recording.now()
  const committed: number[] = []
  for (const point of [1, 2]) {
    await using lease = await acquireLease(repository, 'web01', { command: 'test', clock: eagerClock() })
    await commitSlot(repository, pointManifest({ point: lease.slot, machineUuid: uuid }))
    committed.push(recording.now())
    expect(lease.slot).toBe(point)
  }
  const burnt = new Set<number>()
  for (const state of crashStates(recording, { seed, from: recorded, random: 1, limit: 60 })) {
    const into = temporaryFolder()
    materialise(recording, state, into)
    const after = localRepository(into)
    expect((await openMachine(after, 'web01', machineOptions)).uuid).toBe(uuid)
    const about = `${JSON.stringify(state)}, seed ${seed}`
    const promised = committed.filter((moment) => moment <= state.cut).length
    const lease = await acquireLease(after, 'web01', { command: 'next', clock: eagerClock(), self: afterBoot })
    const { points, aborted, problems, nextSlot } = await readManifests(after, 'web01')
    expect(problems, about).toEqual([])
    expect(points.length, about).toBeGreaterThanOrEqual(promised)
    expect(points.length + aborted.length + 1, about).toBe(nextSlot)
    expect(lease.slot, about).toBe(nextSlot)
    const parent = points.at(-1)?.point ?? null
    await commitSlot(after, pointManifest({ point: lease.slot, parent, machineUuid: uuid, nonce: 'next' }))
    await lease.release()
    expect((await readManifests(after, 'web01')).problems, about).toEqual([])
    burnt.add(aborted.length)
  }
  expect(burnt).toEqual(new Set([0, 1]))
})
