import { RefpointError } from '../../model/errors.js'
import { abortable } from '../abortable.js'
import { checkName, checkPrefix } from '../names.js'
import type { ByteStream, PruneRepository } from '../repository.js'

/** A repository in this process's memory, readable by all of its threads; gone with it. */
export function memoryRepository(): PruneRepository {
  const objects = new Map<string, SharedArrayBuffer>()

  function below(prefix: string): string[] {
    checkPrefix(prefix)
    const start = prefix === '' ? '' : `${prefix}/`
    return [...objects.keys()].filter((name) => name.startsWith(start)).sort()
  }

  function find(name: string): SharedArrayBuffer | undefined {
    checkName(name)
    return objects.get(name)
  }

  return {
    description: 'memory',
    async read(name, limitBytes) {
      const buffer = find(name)
      if (buffer !== undefined && buffer.byteLength > limitBytes) {
        const message = `object ${name} is ${buffer.byteLength} bytes, at most ${limitBytes} expected`
        throw new RefpointError('damaged', message, { fields: { object: name, limitBytes } })
      }
      return buffer === undefined ? undefined : new Uint8Array(buffer).slice()
    },
    async locate(name) {
      const buffer = find(name)
      return buffer === undefined ? undefined : { kind: 'shared', buffer, bytes: buffer.byteLength }
    },
    async stat(name) {
      const buffer = find(name)
      return buffer === undefined ? undefined : { name, bytes: buffer.byteLength }
    },
    async *list(prefix) {
      for (const name of below(prefix)) {
        const buffer = objects.get(name)
        if (buffer !== undefined) yield { name, bytes: buffer.byteLength }
      }
    },
    async children(prefix) {
      const skip = prefix === '' ? 0 : prefix.length + 1
      return [...new Set(below(prefix).map((name) => name.slice(skip).split('/', 1).join('')))].sort()
    },
    async room() {
      return undefined
    },
    async put(name, content, { signal } = {}) {
      checkName(name)
      const buffer = await gather(content, signal)
      objects.set(name, buffer)
      return { name, bytes: buffer.byteLength }
    },
    async claim(name, bytes) {
      if (find(name) !== undefined) return 'exists'
      objects.set(name, shared([bytes], bytes.length))
      return 'created'
    },
    async sweep(prefix) {
      checkPrefix(prefix)
      return 0
    },
    async remove(names) {
      for (const name of names) checkName(name)
      for (const name of names) objects.delete(name)
    },
  }
}

async function gather(content: ByteStream, signal: AbortSignal | undefined): Promise<SharedArrayBuffer> {
  const pieces: Uint8Array[] = []
  let bytes = 0
  for await (const piece of abortable(content, signal)) {
    pieces.push(piece.slice())
    bytes += piece.length
  }
  signal?.throwIfAborted()
  return shared(pieces, bytes)
}

function shared(pieces: readonly Uint8Array[], bytes: number): SharedArrayBuffer {
  const buffer = new SharedArrayBuffer(bytes)
  const whole = new Uint8Array(buffer)
  let at = 0
  for (const piece of pieces) {
    whole.set(piece, at)
    at += piece.length
  }
  return buffer
}
