import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Consistency } from '../../model/reference-point.js'

/** The guest's file systems stand still no longer than this, from the beginning of freezing them. */
const defaultLimitMs = 10_000

export interface Quiesced {
  readonly consistency: Consistency
  /** Why it is not better; undefined when it is `filesystem`. */
  readonly problem: string | undefined
}

/**
 * Runs `instant` while the guest's file systems are frozen by the agent inside it; where that can't be, just so, and
 * says why. A process of its own sees to it that they thaw again, even when this one is killed or stopped.
 * @throws what `instant` throws, after thawing
 */
export async function whileFrozen(
  agentSocket: string,
  instant: () => Promise<void>,
  { limitMs = defaultLimitMs } = {},
): Promise<Quiesced> {
  const guard = startGuard(agentSocket, limitMs)
  try {
    const ready = await guard.line()
    if (ready !== 'ready') return await unfrozen(instant, ready)
    guard.say('freeze')
    const frozen = await guard.line()
    if (!/^frozen [1-9]/.test(frozen)) return await unfrozen(instant, frozen)
    await instant()
    guard.say('thaw')
    const thawed = await guard.line()
    if (/^thawed [1-9]/.test(thawed)) return { consistency: 'filesystem', problem: undefined }
    return { consistency: 'crash', problem: describe(thawed) }
  } finally {
    guard.end()
  }
}

async function unfrozen(instant: () => Promise<void>, said: string): Promise<Quiesced> {
  await instant()
  return { consistency: 'crash', problem: describe(said) }
}

function describe(said: string): string {
  if (said === 'frozen 0' || said === 'thawed 0') return 'the guest has no file system that it could freeze'
  if (said === 'late') return 'it took too long, and they were thawed before'
  return said === '' ? 'the process that freezes ended' : said.replace(/^failed /, '')
}

interface Guard {
  /** The next line that it prints; '' when it has ended. */
  line(): Promise<string>
  say(line: string): void
  /** Lets it thaw what is frozen, and end. */
  end(): void
}

function startGuard(agentSocket: string, limitMs: number): Guard {
  const script = fileURLToPath(new URL('./freeze-guard.js', import.meta.url))
  // A process group of its own: Ctrl-C ends this process, and must not end that one before it has thawed.
  const child = spawn(process.execPath, [script, agentSocket, String(limitMs)], {
    detached: true,
    stdio: ['pipe', 'pipe', 'ignore'],
  })
  child.on('error', () => {})
  child.stdin.on('error', () => {})
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  return {
    async line() {
      const next = await lines.next()
      return next.done === true ? '' : next.value
    },
    say: (line) => void child.stdin.write(`${line}\n`),
    end: () => child.stdin.end(),
  }
}
