import { inspect } from 'node:util'
import { type ErrorCode, RefpointError } from '../model/errors.js'
import type { Output } from './output.js'
import { QuietlyLocked } from './quietly-locked.js'

const statuses: Readonly<Record<ErrorCode, number>> = {
  usage: 2,
  config: 2,
  'machines-failed': 3,
  attention: 4,
  'no-repository': 10,
  locked: 11,
  'wrong-key': 12,
  damaged: 13,
  tracker: 14,
  hook: 1,
  io: 1,
  'commit-unknown': 1,
  cancelled: 130,
}

/** What is told of an error, by people's text and by `--json` alike. */
export interface ErrorReport {
  readonly code: ErrorCode | 'unexpected'
  readonly message: string
  readonly hint?: string
  readonly fields: Readonly<Record<string, unknown>>
  readonly exitStatus: number
}

/** The exit status that an error ends the program with. */
export function exitStatus(error: unknown): number {
  return describeError(error).exitStatus
}

/** Tells an error on stderr, as text or as an event; the stack only when REFPOINT_DEBUG is set. Returns the status. */
export function reportError(error: unknown, output: Output, env: NodeJS.ProcessEnv = process.env): number {
  const report = describeError(error)
  if (report.code === 'unexpected' && isCommandLine(error)) return report.exitStatus
  if (error instanceof QuietlyLocked && !output.json) return report.exitStatus
  output.note(`refpoint: ${report.message}`)
  if (report.hint !== undefined) output.note(report.hint)
  output.event({ type: 'error', ...report })
  if (env['REFPOINT_DEBUG']) output.stderr.write(`${inspect(error, { depth: 5 })}\n`)
  return report.exitStatus
}

/** Sorts an error, whatever was thrown. */
export function describeError(error: unknown): ErrorReport {
  if (error instanceof RefpointError) {
    const { code, message, hint, fields } = error
    return { code, message, ...(hint === undefined ? {} : { hint }), fields, exitStatus: statuses[code] }
  }
  if (isCommandLine(error)) {
    return { code: 'unexpected', message: error.message, fields: {}, exitStatus: error.exitCode === 0 ? 0 : 2 }
  }
  if (error instanceof Error && error.name === 'AbortError') {
    return { code: 'cancelled', message: 'cancelled', fields: {}, exitStatus: statuses.cancelled }
  }
  return systemError(error) ?? unexpected(error)
}

const systemErrors: Readonly<Record<string, readonly [message: string, hint: string]>> = {
  ENOSPC: ['no space left on the device', 'Free some space, then run again: nothing that was committed is lost.'],
  EDQUOT: ['the disk quota is used up', 'Free some space or raise the quota, then run again.'],
  EFBIG: [
    'the file would be larger than is allowed',
    'Raise the limit (ulimit -f), or use a file system that allows larger files.',
  ],
  EACCES: ['permission denied', 'Run as a user who may, such as root.'],
  EPERM: ['the operation is not permitted', 'Run as a user who may, such as root.'],
  EROFS: ['the file system is read-only', 'Mount it writable; after disk errors a file system becomes read-only.'],
  EIO: ['the disk failed to read or write', 'See dmesg for what the disk says.'],
  ENOENT: ['there is no such file or folder', 'Check the path.'],
  ENOTDIR: ['a part of the path is not a folder', 'Check the path.'],
  EISDIR: ['it is a folder', 'Name a file.'],
  EMFILE: ['too many open files', 'Raise the limit: ulimit -n 4096.'],
  ENFILE: ['too many open files on this host', 'Close some programs, or raise fs.file-max.'],
  ENOMEM: ['out of memory', 'Lower memory, or workers, in the defaults of the configuration.'],
  EPIPE: ['whoever was reading the output has gone', 'Nothing needs to be done if that was meant.'],
  ETXTBSY: ['the file is in use', 'Stop what uses it.'],
}

/** The system's own errors that nobody below has put in words. */
function systemError(error: unknown): ErrorReport | undefined {
  if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'string') return undefined
  const known = systemErrors[error.code]
  if (known === undefined) return undefined
  const path = 'path' in error && typeof error.path === 'string' ? `${error.path}: ` : ''
  const fields = { system: error.code, ...('path' in error ? { path: error.path } : {}) }
  return { code: 'io', message: `${path}${known[0]} (${error.code})`, hint: known[1], fields, exitStatus: statuses.io }
}

function unexpected(error: unknown): ErrorReport {
  const what = error instanceof Error ? `${error.name}: ${error.message}` : inspect(error)
  return {
    code: 'unexpected',
    message: `unexpected ${what.split('\n')[0]}`,
    hint:
      'This is a bug. Please report it to the project, with the command line and what it prints when the variable ' +
      'REFPOINT_DEBUG is set to 1.',
    fields: {},
    exitStatus: 1,
  }
}

/** What commander throws has been printed already. Known by its shape: commander need not be loaded for that. */
function isCommandLine(error: unknown): error is Error & { readonly exitCode: number } {
  return (
    error instanceof Error &&
    'code' in error &&
    String(error.code).startsWith('commander.') &&
    'exitCode' in error &&
    typeof error.exitCode === 'number'
  )
}
