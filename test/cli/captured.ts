import { PassThrough } from 'node:stream'
import { type Output, createOutput } from '../../src/cli/output.js'

export interface Captured {
  readonly output: Output
  readonly stdout: () => string
  readonly stderr: () => string
}

/** An output whose words are kept, on a terminal or not. */
export function capture({ json = false, terminal = false } = {}): Captured {
  const stream = (): { stream: PassThrough & { isTTY: boolean; columns: number }; text: () => string } => {
    const pass = Object.assign(new PassThrough(), { isTTY: terminal, columns: 100 })
    let text = ''
    pass.setEncoding('utf8').on('data', (piece: string) => {
      text += piece
    })
    return { stream: pass, text: () => text }
  }
  const [stdout, stderr] = [stream(), stream()]
  const output = createOutput({ json, stdout: stdout.stream, stderr: stderr.stream })
  return { output, stdout: stdout.text, stderr: stderr.text }
}
