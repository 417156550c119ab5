import type { ByteBudget } from './byte-budget.js'

export interface InFlightOptions<Job> {
  readonly budget: ByteBudget
  /** Bytes that a job holds from its start until its result was consumed. */
  readonly bytesOf: (job: Job) => number
  readonly signal: AbortSignal
  /** The most jobs at once, so that small jobs do not queue without end. */
  readonly maxJobs: number
}

/** Gathers items into groups of `size`, the last one shorter: what is handed to a worker in one message. */
export async function* grouped<Item>(
  items: AsyncIterable<Item> | Iterable<Item>,
  size: number,
): AsyncGenerator<Item[]> {
  let group: Item[] = []
  for await (const item of items) {
    group.push(item)
    if (group.length < size) continue
    yield group
    group = []
  }
  if (group.length > 0) yield group
}

/**
 * Runs jobs side by side and yields their results in the jobs' order. The budget is given back when the consumer comes
 * for the next result. The first failure ends it, after the jobs under way have settled.
 */
export async function* ordered<Job, Result>(
  jobs: AsyncIterable<Job> | Iterable<Job>,
  run: (job: Job) => Promise<Result>,
  options: InFlightOptions<Job>,
): AsyncGenerator<Result, void, undefined> {
  const { budget, bytesOf, signal, maxJobs } = options
  const running: { readonly bytes: number; readonly result: Promise<Result> }[] = []
  try {
    for await (const job of jobs) {
      signal.throwIfAborted()
      const bytes = bytesOf(job)
      // What is under way frees the budget only when its result is consumed: never wait for it while holding results.
      while (running.length >= maxJobs || !budget.tryAcquire(bytes)) {
        const first = running[0]
        if (first === undefined) {
          await budget.acquire(bytes, signal)
          break
        }
        yield await first.result
        running.shift()
        budget.release(first.bytes)
      }
      const result = run(job)
      result.catch(() => {})
      running.push({ bytes, result })
    }
    for (let first = running[0]; first !== undefined; first = running[0]) {
      yield await first.result
      running.shift()
      budget.release(first.bytes)
    }
  } finally {
    await Promise.allSettled(running.map((entry) => entry.result))
    for (const entry of running) budget.release(entry.bytes)
  }
}
