import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ByteBudget } from '../../src/operations/byte-budget.js'
import { ordered } from '../../src/operations/ordered.js'

const never = new AbortController().signal

async function collect<T>(results: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = []
  for await (const result of results) list.push(result)
  return list
}

describe('ordered', () => {
  it('gives the results in order, whichever job ends first, within the budget, and gives the budget back', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ bytes: fc.integer({ min: 1, max: 12 }), turns: fc.nat(5) }), { maxLength: 20 }),
        fc.integer({ min: 1, max: 5 }),
        async (jobs, maxJobs) => {
          const budget = new ByteBudget(10)
          let inFlight = 0
          let running = 0
          const results = ordered(
            jobs.entries(),
            async ([i, { bytes, turns }]) => {
              inFlight += bytes
              running++
              expect(inFlight <= 10 || running === 1).toBe(true)
              expect(running).toBeLessThanOrEqual(maxJobs)
              for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve))
              return { i, bytes }
            },
            { budget, bytesOf: ([, { bytes }]) => bytes, signal: never, maxJobs },
          )
          const seen: number[] = []
          for await (const { i, bytes } of results) {
            seen.push(i)
            inFlight -= bytes
            running--
          }
          expect(seen).toEqual(jobs.map((_, i) => i))
          expect(budget.tryAcquire(10)).toBe(true)
        },
      ),
    )
  })

  it('ends with the first failure, after the others have settled, and gives the budget back', async () => {
    const budget = new ByteBudget(3)
    let settled = 0
    const run = async (job: number): Promise<number> => {
      await new Promise((resolve) => setTimeout(resolve, job))
      settled++
      if (job === 1) throw new Error('job 1 failed')
      return job
    }
    const results = ordered([5, 1, 9], run, { budget, bytesOf: () => 1, signal: never, maxJobs: 3 })
    await expect(collect(results)).rejects.toThrow('job 1 failed')
    expect(settled).toBe(3)
    expect(budget.tryAcquire(3)).toBe(true)
  })

  it('stops at an abort with its reason', async () => {
    const stop = new AbortController()
    const budget = new ByteBudget(1)
    await budget.acquire(1, never)
    const waiting = collect(
      ordered([1], async (job) => job, { budget, bytesOf: () => 1, signal: stop.signal, maxJobs: 1 }),
    )
    const reason = new Error('enough')
    stop.abort(reason)
    await expect(waiting).rejects.toBe(reason)
    budget.release(1)
    expect(budget.tryAcquire(1)).toBe(true)
  })
})

describe('ByteBudget', () => {
  it('lets a large request through before small ones that came later', async () => {
    const budget = new ByteBudget(10)
    const order: string[] = []
    await budget.acquire(6, never)
    const large = budget.acquire(8, never).then(() => order.push('large'))
    const small = budget.acquire(2, never).then(() => order.push('small'))
    expect(budget.tryAcquire(1)).toBe(false)
    budget.release(6)
    await Promise.all([large, small])
    expect(order).toEqual(['large', 'small'])
  })
})
