import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { pathToFileURL } from 'node:url'
import { resolve } from 'node:path'
import { onTestFinished } from 'vitest'

/** A module of the code that ships, as a child's `import` wants it. */
export function shippedModule(path: string): string {
  return JSON.stringify(pathToFileURL(resolve(import.meta.dirname, '..', 'dist', path)).href)
}

export interface Child {
  readonly process: ChildProcess
  /** The next line that the child prints; rejects when it ends without one. */
  line(): Promise<string>
  /** Waits for its end; the exit status, or the signal that ended it. */
  ended(): Promise<number | string>
}

/** Runs a module's text in a Node process of its own, which is killed, stopped or not, when the test ends. */
export function startChild(program: string): Child {
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: ['pipe', 'pipe', 'inherit'] })
  onTestFinished(() => void child.kill('SIGKILL'))
  const end = new Promise<number | string>((done) => child.on('exit', (code, signal) => done(code ?? signal ?? 0)))
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  return {
    process: child,
    ended: () => end,
    async line() {
      const next = await lines.next()
      if (next.done === true) throw new Error(`the child ended without a line: ${await end}`)
      return next.value
    },
  }
}
