import { execa } from 'execa'

/** A program of the user's own: a hook, a notifier. */
export interface Program {
  /** The program and its arguments, as they are: no shell looks at them. */
  readonly command: readonly string[]
  /** What it finds in its environment beside our own. */
  readonly env: Readonly<Record<string, string>>
  readonly stdin: string
  readonly timeoutMs: number
  /** Ends it early. */
  readonly signal?: AbortSignal
}

export interface ProgramEnd {
  /** Whether it ended by itself, with status 0. */
  readonly ok: boolean
  /** How it ended, for a sentence that begins with its name: `ended with status 1`. */
  readonly how: string
  /** The last of what it printed, on either stream. */
  readonly output: string
}

const outputBytes = 4096
/** Between asking a program to end and making it; and how long what it left running may hold its output open. */
const graceMs = 3000
const drainMs = 500

/**
 * Runs a program in a process group of its own, so that what it starts ends with it, and waits until it ends or its
 * time is up. Never throws: a program that can't be started has ended, too.
 */
export async function runProgram({ command, env, stdin, timeoutMs, signal }: Program): Promise<ProgramEnd> {
  const [file = '', ...args] = command
  let output = ''
  let ended: 'timeout' | 'cancelled' | undefined
  const child = execa(file, args, {
    env,
    input: stdin,
    stdout: 'pipe',
    stderr: 'pipe',
    buffer: false,
    detached: true,
    reject: false,
  })
  const keep = (chunk: Buffer): void => void (output = `${output}${chunk.toString('utf8')}`.slice(-outputBytes))
  child.stdout.on('data', keep)
  child.stderr.on('data', keep)
  const timers: NodeJS.Timeout[] = []
  const end = (why: 'timeout' | 'cancelled'): void => {
    if (ended !== undefined) return
    ended = why
    killGroup(child.pid, 'SIGTERM')
    timers.push(setTimeout(() => killGroup(child.pid, 'SIGKILL'), graceMs))
  }
  timers.push(setTimeout(() => end('timeout'), timeoutMs))
  const cancel = (): void => end('cancelled')
  signal?.addEventListener('abort', cancel, { once: true })
  if (signal?.aborted === true) cancel()
  try {
    // What it leaves running may keep its output open for ever: that is not waited for.
    const exited = new Promise<void>((resolve) => child.once('exit', () => void timers.push(setTimeout(resolve, drainMs))))
    const result = await Promise.race([child, exited])
    const how = describeEnd(result ?? { exitCode: child.exitCode ?? undefined, signal: child.signalCode ?? undefined })
    const told =
      ended === 'timeout'
        ? `did not end within ${timeoutMs / 1000} s and was stopped`
        : ended === 'cancelled'
          ? 'was stopped because the run was cancelled'
          : how
    return { ok: told === endedWell, how: told, output: output.trim() }
  } finally {
    for (const timer of timers) clearTimeout(timer)
    signal?.removeEventListener('abort', cancel)
    if (ended !== undefined) killGroup(child.pid, 'SIGKILL')
    child.stdout.destroy()
    child.stderr.destroy()
    child.unref()
  }
}

const endedWell = 'ended with status 0'

function describeEnd(result: {
  readonly exitCode?: number | undefined
  readonly signal?: string | undefined
  readonly originalMessage?: string | undefined
  readonly code?: string | undefined
}): string {
  if (result.exitCode !== undefined) return `ended with status ${result.exitCode}`
  if (result.signal !== undefined) return `was killed by ${result.signal}`
  return `could not be started: ${result.originalMessage ?? result.code ?? 'unknown reason'}`
}

function killGroup(pid: number | undefined, signal: NodeJS.Signals): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, signal)
  } catch {
    // It is gone already.
  }
}
