import { readFileSync, readlinkSync } from 'node:fs'
import { RefpointError } from '../../model/errors.js'
import type { Monitor } from './monitor.js'
import { cpusReply } from './replies.js'

/** The process behind a monitor. */
export interface QemuIdentity {
  readonly pid: number
  readonly uid: number
  readonly gid: number
  /** What its relative paths are relative to; undefined when this user may not see it. */
  readonly folder: string | undefined
}

/**
 * Finds QEMU's process through the thread of its first processor: the monitor's socket may have been passed on to it.
 * @throws RefpointError `tracker` when it is none of this host, or in another PID namespace (a container).
 */
export async function identifyQemu(monitor: Monitor): Promise<QemuIdentity> {
  const [cpu] = await monitor.ask(cpusReply, 'query-cpus-fast')
  const thread = cpu?.['thread-id'] ?? 0
  try {
    const status = readFileSync(`/proc/${thread}/status`, 'utf8')
    // Of the IDs the second is the effective one: QEMU may have started as root and have become somebody else.
    const pid = field(status, /^Tgid:\s*(\d+)/m)
    return {
      pid,
      uid: field(status, /^Uid:\s*\d+\s+(\d+)/m),
      gid: field(status, /^Gid:\s*\d+\s+(\d+)/m),
      folder: workingFolder(pid),
    }
  } catch (cause) {
    throw new RefpointError('tracker', `QEMU's process (thread ${thread}) is not to be found on this host`, {
      hint: 'Run refpoint on the same host, and outside of a container that hides QEMU.',
      cause,
      fields: { thread },
    })
  }
}

function field(status: string, pattern: RegExp): number {
  const value = pattern.exec(status)?.[1]
  if (value === undefined) throw new Error('its status is unreadable')
  return Number(value)
}

function workingFolder(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/cwd`)
  } catch {
    return undefined
  }
}
