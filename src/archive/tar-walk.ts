import { once } from 'node:events'
import { extract } from 'tar-stream'
import { tarEntryDefect } from './tar-entry-defect.js'

/** A tar member as its header states it. */
export interface TarEntry {
  readonly name: string
  readonly bytes: number
}

/** Reads a tar stream piece by piece, through tar-stream, and tells which members begin in each piece. */
export class TarWalk {
  readonly #stream = extract({ highWaterMark: 1 })
  #found: TarEntry[] = []
  #failure: Error | undefined

  constructor() {
    this.#stream.on('error', (error) => (this.#failure = error))
    this.#stream.on('entry', (header, payload, next) => {
      // The stream's own error is what counts; one without a listener would end the process.
      payload.on('error', () => undefined)
      const defect = tarEntryDefect(header)
      if (defect !== undefined) return next(new Error(defect))
      this.#found.push({ name: header.name, bytes: header.size })
      payload.on('end', () => next())
      payload.resume()
      return undefined
    })
  }

  /** Takes the next piece in whole; returns the members whose headers were in it. */
  async push(piece: Uint8Array): Promise<readonly TarEntry[]> {
    const drained = once(this.#stream, 'drain')
    drained.catch(() => undefined)
    this.#stream.write(Buffer.from(piece.buffer, piece.byteOffset, piece.length))
    await drained
    if (this.#failure !== undefined) throw this.#failure
    const found = this.#found
    this.#found = []
    return found
  }

  /** Throws when the stream ends within a member. */
  async end(): Promise<void> {
    const finished = once(this.#stream, 'finish')
    this.#stream.end(null)
    await finished
  }

  destroy(): void {
    this.#stream.destroy()
  }
}
