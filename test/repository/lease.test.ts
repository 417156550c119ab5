import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { commitSlot } from '../../src/repository/commit.js'
import { lockName } from '../../src/repository/lease-record.js'
import { acquireLease, type LeaseOptions } from '../../src/repository/lease.js'
import { localRepository } from '../../src/repository/local/local-repository.js'
import { readManifests } from '../../src/repository/manifests.js'
import { readSlot } from '../../src/repository/read-slot.js'
import { memoryRepository } from '../../src/repository/memory/memory-repository.js'
import type { ProcessIdentity } from '../../src/repository/process-identity.js'
import type { PruneRepository } from '../../src/repository/repository.js'
import { shippedModule, startChild } from '../child-process.js'
import { temporaryFolder } from '../temporary.js'
import { FakeClock } from './fake-clock.js'
import { pointManifest } from './manifest.js'

const ttlMs = 60_000
const here: ProcessIdentity = { host: 'here', realm: 'a', pid: 1, start: '1' }
const there: ProcessIdentity = { host: 'there', realm: 'b', pid: 1, start: '1' }

function options(self: ProcessIdentity, clock: FakeClock, more: Partial<LeaseOptions> = {}): LeaseOptions {
  return { command: `backup on ${self.host}`, self, clock, ttlMs, ...more }
}

/** A holder that takes the lease and then sleeps: its clock stands still, so it renews nothing. */
async function sleeper(repository: PruneRepository) {
  return await acquireLease(repository, 'web01', options(here, new FakeClock()))
}

describe('a lease', () => {
  it('is for the first slot, and after a commit for the next', async () => {
    const repository = memoryRepository()
    const clock = new FakeClock()
    const first = await acquireLease(repository, 'web01', options(here, clock))
    expect(first.slot).toBe(1)
    await first.assertHeld()
    await commitSlot(repository, pointManifest({ point: 1 }))
    await first.release()
    await first.release()
    const second = await acquireLease(repository, 'web01', options(there, clock))
    expect(second.slot).toBe(2)
    await second.release()
    const third = await acquireLease(repository, 'web01', options(here, clock))
    expect(third.slot).toBe(2)
    expect(await repository.children('machines/web01/locks')).toEqual(['lease-00000003.json'])
    await third.release()
  })

  it('is refused while it is renewed from elsewhere, saying who holds it', async () => {
    const repository = memoryRepository()
    const clock = new FakeClock()
    await using lease = await acquireLease(repository, 'web01', options(here, clock))
    const other = acquireLease(repository, 'web01', options(there, clock))
    const refused = expect(other).rejects.toMatchObject({
      code: 'locked',
      message: expect.stringMatching(/^machine 'web01' is held by 'backup on here' \(pid 1 on here\) since 20/),
      hint: expect.stringContaining('60 s'),
      fields: { host: 'here', pid: 1 },
    })
    await clock.run(ttlMs)
    await refused
    await lease.assertHeld()
    expect(await readSlot(repository, 'web01', 1)).toBeUndefined()
  })

  it('is waited for where that is asked', async () => {
    const repository = memoryRepository()
    const clock = new FakeClock()
    const lease = await acquireLease(repository, 'web01', options(here, clock))
    const waiting = acquireLease(repository, 'web01', options(there, clock, { waitMs: 10 * ttlMs }))
    await clock.run(3 * ttlMs)
    await lease.release()
    await clock.run(ttlMs)
    const second = await waiting
    expect(second.slot).toBe(1)
    await second.release()
  })

  it('stops waiting with the reason of the signal', async () => {
    const repository = memoryRepository()
    const clock = new FakeClock()
    await using _lease = await acquireLease(repository, 'web01', options(here, clock))
    const controller = new AbortController()
    const asked = options(there, clock, { waitMs: ttlMs, signal: controller.signal })
    const waiting = acquireLease(repository, 'web01', asked)
    const reason = new Error('enough')
    const stopped = expect(waiting).rejects.toBe(reason)
    await clock.run(1000)
    controller.abort(reason)
    await clock.run(1000)
    await stopped
  })

  it('of a holder elsewhere is taken over after one whole TTL of silence, not before', async () => {
    const repository = memoryRepository()
    await sleeper(repository)
    const clock = new FakeClock()
    let taken = false
    const taking = acquireLease(repository, 'web01', options(there, clock)).then((lease) => {
      taken = true
      return lease
    })
    await clock.run(ttlMs)
    expect(taken).toBe(false)
    await clock.run(5000)
    const lease = await taking
    expect(lease.slot).toBe(2)
    expect(await readSlot(repository, 'web01', 1)).toMatchObject({
      type: 'aborted',
      reason: expect.stringContaining("'backup on here' (pid 1 on here)"),
    })
    await lease.release()
  })

  it('fences: a holder paused just before its claim, taken over, then woken, commits nothing', async () => {
    const repository = memoryRepository()
    const paused = await sleeper(repository)
    await paused.assertHeld()
    const clock = new FakeClock()
    const taking = acquireLease(repository, 'web01', options(there, clock))
    await clock.run(ttlMs + 5000)
    const taker = await taking

    const woken = commitSlot(repository, pointManifest({ point: paused.slot, nonce: 'the sleeper' }))
    await expect(woken).rejects.toMatchObject({ code: 'locked', message: expect.stringContaining('was lost') })
    await expect(paused.assertHeld()).rejects.toMatchObject({ code: 'locked' })
    expect(paused.lost.aborted).toBe(true)
    await paused.release()

    await commitSlot(repository, pointManifest({ point: taker.slot, parent: null, nonce: 'the taker' }))
    const { points } = await readManifests(repository, 'web01')
    expect(points.map(({ point, nonce }) => [point, nonce])).toEqual([[2, 'the taker']])
    await taker.assertHeld()
    await taker.release()
  })

  it('keeps what a holder committed before it fell silent', async () => {
    const repository = memoryRepository()
    const paused = await sleeper(repository)
    await commitSlot(repository, pointManifest({ point: paused.slot }))
    const clock = new FakeClock()
    const taking = acquireLease(repository, 'web01', options(there, clock))
    await clock.run(ttlMs + 5000)
    expect((await taking).slot).toBe(2)
    expect(await readSlot(repository, 'web01', 1)).toMatchObject({ type: 'point', nonce: 'nonce-1' })
  })

  it('goes to exactly one of many that take over at once', async () => {
    const repository = memoryRepository()
    await sleeper(repository)
    const clock = new FakeClock()
    const takers = Array.from({ length: 8 }, (_, i) =>
      acquireLease(repository, 'web01', options({ ...there, host: `taker ${i}`, realm: `realm ${i}` }, clock)),
    )
    const outcomes = Promise.allSettled(takers)
    await clock.run(4 * ttlMs)
    const taken = (await outcomes).flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []))
    expect(taken.map(({ slot }) => slot)).toEqual([2])
    for (const outcome of await outcomes) {
      if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'locked' })
    }
  })

  it('is not fooled by an epoch that came and went while it slept', async () => {
    const clock = new FakeClock()
    const inner = memoryRepository()
    let intrude = true
    // Between the look and the claim of epoch 1, others take, use and give back epochs 1 to 3, and tidy up.
    const slow: PruneRepository = {
      ...inner,
      async claim(name, bytes) {
        if (intrude && name === lockName('web01', 'lease', 1)) {
          intrude = false
          for (let i = 0; i < 3; i += 1) {
            const lease = await acquireLease(inner, 'web01', options(there, clock))
            if (i < 2) await lease.release()
          }
        }
        return await inner.claim(name, bytes)
      },
    }
    const taking = acquireLease(slow, 'web01', options(here, clock))
    const refused = expect(taking).rejects.toMatchObject({ code: 'locked' })
    await clock.run(ttlMs)
    await refused
    expect((await inner.children('machines/web01/locks')).filter((name) => name.startsWith('lease'))).toEqual([
      'lease-00000003.json',
    ])
  })

  it('names the lock record that is damaged', async () => {
    const repository = memoryRepository()
    await repository.put(lockName('web01', 'lease', 4), [new TextEncoder().encode('{"format": 1}')])
    await expect(acquireLease(repository, 'web01', options(here, new FakeClock()))).rejects.toMatchObject({
      code: 'damaged',
      message: expect.stringContaining('lease-00000004.json'),
    })
  })
})

describe('a lease between real processes', () => {
  const holder = (folder: string, ttl: number): string => `
    import { localRepository } from ${shippedModule('repository/local/local-repository.js')}
    import { acquireLease } from ${shippedModule('repository/lease.js')}
    import { commitSlot } from ${shippedModule('repository/commit.js')}
    const repository = localRepository(${JSON.stringify(folder)})
    const lease = await acquireLease(repository, 'web01', { command: 'the child', ttlMs: ${ttl} })
    console.log(lease.slot)
    const manifest = await new Promise((resolve) => process.stdin.once('data', (data) => resolve(JSON.parse(data))))
    const outcome = await commitSlot(repository, manifest).then(() => 'committed', (error) => error.code)
    console.log(outcome)
    process.exit(0)
  `

  it('is refused at once while the holder lives, and taken over at once when it was killed', async () => {
    const folder = join(temporaryFolder(), 'r')
    const repository = localRepository(folder, { create: true })
    await repository.claim('refpoint.json', new Uint8Array())
    const child = startChild(holder(folder, 60_000))
    expect(await child.line()).toBe('1')
    await expect(acquireLease(repository, 'web01', { command: 'test' })).rejects.toMatchObject({
      code: 'locked',
      message: expect.stringContaining(`'the child' (pid ${child.process.pid}`),
    })
    child.process.kill('SIGKILL')
    expect(await child.ended()).toBe('SIGKILL')
    await using lease = await acquireLease(repository, 'web01', { command: 'test' })
    expect(lease.slot).toBe(2)
    expect(await readSlot(repository, 'web01', 1)).toMatchObject({ type: 'aborted' })
  })

  it('fences: a holder stopped just before its claim, taken over, then continued, commits nothing', async () => {
    const folder = join(temporaryFolder(), 'r')
    const repository = localRepository(folder, { create: true })
    await repository.claim('refpoint.json', new Uint8Array())
    const child = startChild(holder(folder, 1500))
    expect(await child.line()).toBe('1')
    child.process.kill('SIGSTOP')
    await using lease = await acquireLease(repository, 'web01', { command: 'test', waitMs: 60_000 })
    expect(lease.slot).toBe(2)
    child.process.stdin?.write(JSON.stringify(pointManifest({ point: 1, nonce: 'the sleeper' })))
    child.process.kill('SIGCONT')
    expect(await child.line()).toBe('locked')
    expect(await child.ended()).toBe(0)
    await lease.assertHeld()
    await commitSlot(repository, pointManifest({ point: 2, parent: null }))
    const { points, aborted } = await readManifests(repository, 'web01')
    expect(points.map(({ point }) => point)).toEqual([2])
    expect(aborted.map(({ point }) => point)).toEqual([1])
  })
})
