import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { onTestFinished } from 'vitest'
import { systemPython } from '../../layers.js'
import { SectorHistory } from './sector-history.js'

export interface LoadOptions {
  readonly seed: number
  /** The number of the last sector that was written so far. */
  readonly sequence: number
  readonly uri: string
  /** Where the client puts what it reads before it begins to write. */
  readonly file: string
}

/** A client that shares no code with refpoint writes to a served disk until its server dies. */
export class KillLoad {
  /** What the disk held before the first write, read by the same client. */
  readonly content: Buffer
  /** What was asked of the disk, and what was acknowledged; whole when `gone` has resolved. */
  readonly history: SectorHistory
  /** Resolves to the last number written when the server is dead; rejects when the client failed for another reason. */
  readonly gone: Promise<number>

  private constructor(content: Buffer, history: SectorHistory, gone: Promise<number>) {
    this.content = content
    this.history = history
    this.gone = gone
  }

  /** Resolves when the client has read the disk and begins to write. */
  static async start({ seed, sequence, uri, file }: LoadOptions): Promise<KillLoad> {
    const args = [join(import.meta.dirname, 'kill-load.py'), String(seed), String(sequence), uri, file]
    const child = spawn(systemPython, args, { stdio: ['ignore', 'pipe', 'inherit'] })
    onTestFinished(() => void child.kill('SIGKILL'))
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
    const first = await lines.next()
    if (first.value !== 'ready') throw new Error(`the writing client did not start: ${String(first.value)}`)
    const content = readFileSync(file)
    const history = SectorHistory.of(content)
    const gone = record(lines, history, sequence)
    gone.catch(() => {})
    return new KillLoad(content, history, gone)
  }
}

/** Takes the client's account down; its order is that of the events. */
async function record(lines: AsyncIterator<string>, history: SectorHistory, sequence: number): Promise<number> {
  const open = new Map<number, (ended: number) => void>()
  let last = sequence
  let flushBegun = 0
  for (let moment = 1; ; moment += 1) {
    const { value = '', done } = await lines.next()
    if (done === true) throw new Error('the writing client ended without a word')
    const [what, ...numbers] = value.split(' ')
    const [id = 0, offset = 0, first = 0, sectors = 0] = numbers.map(Number)
    switch (what) {
      case 'w':
        open.set(id, history.write(offset, Array.from({ length: sectors }, (_, n) => first && first + n), moment))
        last = Math.max(last, first && first + sectors - 1)
        break
      case 'e':
        open.get(id)?.(moment)
        open.delete(id)
        break
      case 'f':
        flushBegun = moment
        break
      case 'g':
        history.flush(flushBegun, moment)
        break
      case 'gone':
        return last
      default:
        throw new Error(`the writing client failed: ${value}`)
    }
  }
}
