export interface Waiting<T> {
  readonly promise: Promise<T>
  resolve(value: T): void
  reject(reason: unknown): void
}

export interface WaitLimits {
  readonly timeoutMs: number
  /** The reason to reject with when the time is over. */
  readonly timedOut: () => Error
  readonly signal: AbortSignal | undefined
  /** Called once when it is settled, whatever way. */
  readonly settled: () => void
}

/**
 * A promise with an end: the answer, the time limit, or the signal's reason, unwrapped. Nobody has to be looking when
 * it rejects.
 */
export function waiting<T>({ timeoutMs, timedOut, signal, settled }: WaitLimits): Waiting<T> {
  const { promise, resolve, reject } = deferred<T>()
  promise.catch(() => {})
  let done = false
  const settle = (how: () => void): void => {
    if (done) return
    done = true
    clearTimeout(timer)
    signal?.removeEventListener('abort', aborted)
    settled()
    how()
  }
  const aborted = (): void => settle(() => reject(signal?.reason))
  const timer = setTimeout(() => settle(() => reject(timedOut())), timeoutMs)
  if (signal?.aborted === true) aborted()
  else signal?.addEventListener('abort', aborted)
  return {
    promise,
    resolve: (value) => settle(() => resolve(value)),
    reject: (reason) => settle(() => reject(reason)),
  }
}

function deferred<T>(): { promise: Promise<T>; resolve: (value: T) => void; reject: (reason: unknown) => void } {
  let resolve: (value: T) => void = () => {}
  let reject: (reason: unknown) => void = () => {}
  const promise = new Promise<T>((yes, no) => {
    resolve = yes
    reject = no
  })
  return { promise, resolve, reject }
}
