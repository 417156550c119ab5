import type { ByteStream } from './repository.js'

/** The stream, ending with the signal's reason as soon as that aborts, also while the next piece is awaited. */
export async function* abortable(content: ByteStream, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array> {
  if (signal === undefined) {
    yield* content
    return
  }
  signal.throwIfAborted()
  const iterator = Symbol.asyncIterator in content ? content[Symbol.asyncIterator]() : content[Symbol.iterator]()
  // One promise a piece: racing against one that lives as long as the stream would keep every piece in memory.
  let reject: (reason: unknown) => void = () => undefined
  const abort = (): void => reject(signal.reason)
  signal.addEventListener('abort', abort, { once: true })
  let ended = false
  try {
    for (;;) {
      const next = await new Promise<IteratorResult<Uint8Array>>((resolve, refuse) => {
        reject = refuse
        Promise.resolve(iterator.next()).then(resolve, refuse)
      })
      signal.throwIfAborted()
      if (next.done === true) {
        ended = true
        return
      }
      yield next.value
    }
  } finally {
    signal.removeEventListener('abort', abort)
    // Not awaited: a producer that hangs would keep the abort waiting.
    if (!ended) Promise.resolve(iterator.return?.()).catch(() => undefined)
  }
}
