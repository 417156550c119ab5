import { createHash, randomBytes } from 'node:crypto'
import { readFileSync, readlinkSync } from 'node:fs'
import { hostname } from 'node:os'

/** Which process wrote something, so that another can tell whether it is still there. */
export interface ProcessIdentity {
  /** For messages. */
  readonly host: string
  /**
   * Names the boot, the process ids and the clock that `pid`, `start` and monotonic times belong to: one boot of one
   * host and one set of namespaces. Processes of two realms can tell nothing about each other.
   */
  readonly realm: string
  readonly pid: number
  /** The process's start in clock ticks since the boot: a recycled pid has another. */
  readonly start: string
}

/** This process; where the system tells nothing (not Linux) it is in a realm of its own. */
export function currentProcess(): ProcessIdentity {
  current ??= { host: hostname(), realm: readRealm(), pid: process.pid, start: readStart(process.pid) ?? '0' }
  return current
}

let current: ProcessIdentity | undefined

/** Whether the other process is known to run, known to be gone, or can't be told from here. */
export function processState(other: ProcessIdentity, self: ProcessIdentity): 'alive' | 'gone' | 'unknown' {
  if (other.realm !== self.realm) return 'unknown'
  try {
    process.kill(other.pid, 0)
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ESRCH') return 'gone'
  }
  const start = readStart(other.pid)
  // Unreadable though the process is there: another user's, on a system that hides those.
  return start === undefined || start === other.start ? 'alive' : 'gone'
}

function readRealm(): string {
  try {
    const parts = [
      readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim(),
      readlinkSync('/proc/self/ns/pid'),
      readlinkSync('/proc/self/ns/time'),
    ]
    return createHash('sha256').update(parts.join('\n')).digest('hex').slice(0, 16)
  } catch {
    return randomBytes(8).toString('hex')
  }
}

/** Field 22 of /proc/<pid>/stat; '' for a zombie, which can do nothing any more. */
function readStart(pid: number): string | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1')
    // The command name, in parentheses, may itself hold spaces and parentheses.
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
    return fields[0] === 'Z' || fields[0] === 'X' ? '' : fields[19]
  } catch {
    return undefined
  }
}
