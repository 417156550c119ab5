import { expect, it } from 'vitest'
import { Throttle } from '../../src/operations/throttle.js'
import { throttledRepository } from '../../src/operations/throttled.js'
import { memoryRepository } from '../../src/repository/memory/memory-repository.js'
import { repositoryConformance } from '../conformance/repository.js'

repositoryConformance('behind a limit', () => throttledRepository(memoryRepository(), new Throttle(2 ** 40)))

it('lets bytes through at the rate that was said, over all that share it', async () => {
  const throttle = new Throttle(1_000_000)
  const repository = throttledRepository(memoryRepository(), throttle)
  const started = performance.now()
  const piece = new Uint8Array(50_000)
  await Promise.all(['a', 'b'].map((name) => repository.put(name, [piece, piece, piece])))
  const tookMs = performance.now() - started
  // The last of the six is not waited for.
  expect(tookMs).toBeGreaterThanOrEqual(240)
  expect((await repository.stat('a'))?.bytes).toBe(150_000)
})

it('ends a wait with the reason of the signal', async () => {
  const throttle = new Throttle(1)
  throttle.charge(1_000_000)
  const stop = new AbortController()
  const reason = new Error('cancelled')
  const waiting = throttle.turn(stop.signal)
  stop.abort(reason)
  await expect(waiting).rejects.toBe(reason)
})
