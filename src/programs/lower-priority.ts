import { readdirSync } from 'node:fs'
import { setPriority } from 'node:os'
import { runProgram } from './run-program.js'

export interface Priority {
  /** 0 to 19; undefined: as it is. */
  readonly nice: number | undefined
  readonly ionice: 'idle' | 'best-effort' | undefined
}

/**
 * Lets others go first, for this process: each of its threads, and those that they will start. Before workers are.
 * @returns what could not be done; nothing of it makes a run fail.
 */
export async function lowerPriority({ nice, ionice }: Priority): Promise<readonly string[]> {
  const problems: string[] = []
  const threads = readdirSync('/proc/self/task').map(Number)
  if (nice !== undefined) {
    for (const thread of threads) {
      try {
        setPriority(thread, nice)
      } catch (error) {
        problems.push(`nice: ${error instanceof Error ? error.message : String(error)}`)
        break
      }
    }
  }
  if (ionice !== undefined) {
    const scheduling = ionice === 'idle' ? ['-c', '3'] : ['-c', '2', '-n', '7']
    const command = ['ionice', ...scheduling, '-p', ...threads.map(String)]
    const { ok, how, output } = await runProgram({ command, env: {}, stdin: '', timeoutMs: 10_000 })
    if (!ok) problems.push(`ionice ${how}${output === '' ? '' : `: ${output}`}`)
  }
  return problems
}
