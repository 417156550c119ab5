import { RefpointError, type ErrorCode } from '../model/errors.js'
import type { TaskJobs, TaskResults } from './tasks/tasks.js'

/** Runs the tasks that touch payload: here for little work, in worker threads for more. */
export interface TaskPool extends AsyncDisposable {
  readonly workers: number
  /** Runs jobs one after the other in one thread, in one message: a message costs as much as hashing 256 KiB. */
  run<Name extends keyof TaskJobs>(
    name: Name,
    jobs: readonly TaskJobs[Name][],
    bytes: number,
  ): Promise<TaskResults[Name][]>
  /** Runs one job in every thread that has run any, and waits for all of them: for what threads keep open. */
  everywhere<Name extends keyof TaskJobs>(name: Name, job: TaskJobs[Name]): Promise<void>
}

/** How a task's outcome crosses between threads: errors lose their class on the way, so they travel as data. */
export type TaskOutcome<Result> =
  | { readonly ok: true; readonly result: Result }
  | {
      readonly ok: false
      readonly code: ErrorCode | undefined
      readonly message: string
      readonly stack: string | undefined
      readonly hint: string | undefined
      readonly fields: Readonly<Record<string, unknown>>
      readonly systemCode: string | undefined
    }

/** Turns a task's exception into data. */
export function failureOf(error: unknown): TaskOutcome<never> {
  const known = error instanceof RefpointError ? error : undefined
  const plain = error instanceof Error ? error : new Error(String(error))
  const systemCode = (plain as NodeJS.ErrnoException).code
  return {
    ok: false,
    code: known?.code,
    message: plain.message,
    stack: plain.stack,
    hint: known?.hint,
    fields: known?.fields ?? {},
    systemCode: known === undefined && typeof systemCode === 'string' ? systemCode : undefined,
  }
}

/** The result, or the exception that the task threw. */
export function unwrapOutcome<Result>(outcome: TaskOutcome<Result>): Result {
  if (outcome.ok) return outcome.result
  if (outcome.code !== undefined) {
    throw new RefpointError(outcome.code, outcome.message, {
      fields: outcome.fields,
      ...(outcome.hint === undefined ? {} : { hint: outcome.hint }),
    })
  }
  const error: NodeJS.ErrnoException = new Error(outcome.message)
  if (outcome.stack !== undefined) error.stack = outcome.stack
  if (outcome.systemCode !== undefined) error.code = outcome.systemCode
  throw error
}

/** Jobs of one kind, in order. */
export interface TaskCall {
  readonly name: keyof TaskJobs
  readonly jobs: readonly unknown[]
  /** Where threads wait for each other afterwards, so that each of them runs one of the calls. */
  readonly meeting?: Meeting
}

/** A count of the threads that have arrived, and how many are to. */
export interface Meeting {
  readonly arrived: SharedArrayBuffer
  readonly threads: number
}

/** Threads that wait this long for the others go on without them: one of them has died. */
const MEETING_MS = 60_000

/** Blocks this thread until all have arrived. */
export function meet({ arrived, threads }: Meeting): void {
  const count = new Int32Array(arrived)
  Atomics.add(count, 0, 1)
  Atomics.notify(count, 0)
  const until = performance.now() + MEETING_MS
  for (;;) {
    const now = Atomics.load(count, 0)
    const left = until - performance.now()
    if (now >= threads || left <= 0) return
    Atomics.wait(count, 0, now, left)
  }
}

/** A module that has the tasks: the same in this thread and in a worker. */
export interface TaskModule {
  readonly runTasks: (call: TaskCall) => Promise<TaskOutcome<unknown[]>>
}

/** Work below this, in bytes, is done in this thread: a worker costs more to start than it saves. */
const INLINE_BYTES = 8 * 1024 * 1024

/**
 * A worker's own heap is some 8 MB. The collector lets half of what the heap may grow to pile up in buffers outside of it,
 * and compressing leaves a megabyte of them with each frame: a small heap keeps a worker small.
 */
const WORKER_HEAP_MB = 32

export interface PoolOptions {
  /** URL of the compiled module that exports `runTask`. */
  readonly script: URL
  readonly workers: number
}

/** A pool over the tasks of `script`. Workers are started when the work so far exceeds what is worth doing inline. */
export function createPool({ script, workers }: PoolOptions): TaskPool {
  let inlineBytes = 0
  let inline: Promise<TaskModule> | undefined
  let threads: Promise<import('tinypool').Tinypool> | undefined

  const runInline = async (call: TaskCall): Promise<TaskOutcome<unknown[]>> => {
    inline ??= import(script.href) as Promise<TaskModule>
    return await (await inline).runTasks(call)
  }
  const runInThread = async (call: TaskCall): Promise<TaskOutcome<unknown[]>> => {
    threads ??= import('tinypool').then(
      ({ Tinypool }) =>
        new Tinypool({
          filename: script.href,
          name: 'runTasks',
          runtime: 'worker_threads',
          minThreads: workers,
          maxThreads: workers,
          isolateWorkers: false,
          resourceLimits: { maxOldGenerationSizeMb: WORKER_HEAP_MB },
        }),
    )
    return (await (await threads).run(call, { name: 'runTasks' })) as TaskOutcome<unknown[]>
  }
  // Tasks use static buffers: in this thread, only one at a time.
  let queue: Promise<unknown> = Promise.resolve()

  return {
    workers,
    async run(name, jobs, bytes) {
      inlineBytes += bytes
      const call = { name, jobs }
      let outcome: TaskOutcome<unknown[]>
      if (threads === undefined && inlineBytes <= INLINE_BYTES) {
        const mine = queue.then(() => runInline(call))
        queue = mine.catch(() => {})
        outcome = await mine
      } else {
        outcome = await runInThread(call)
      }
      return unwrapOutcome(outcome) as TaskResults[typeof name][]
    },
    async everywhere(name, job) {
      const call: TaskCall = { name, jobs: [job] }
      const calls: Promise<TaskOutcome<unknown[]>>[] = []
      if (inline !== undefined) {
        const mine = queue.then(() => runInline(call))
        queue = mine.catch(() => {})
        calls.push(mine)
      }
      if (threads !== undefined) {
        // One after the other in one queue: calls of two meetings can't keep each other waiting.
        const meeting = { arrived: new SharedArrayBuffer(4), threads: workers }
        for (let thread = 0; thread < workers; thread++) calls.push(runInThread({ ...call, meeting }))
      }
      for (const outcome of await Promise.all(calls)) unwrapOutcome(outcome)
    },
    async [Symbol.asyncDispose]() {
      await queue
      if (inline !== undefined) await (await inline).runTasks({ name: 'closeAll', jobs: [undefined] })
      if (threads !== undefined) await (await threads).destroy()
    },
  }
}
