import { RefpointError } from '../../model/errors.js'

const hints: Readonly<Record<string, string>> = {
  ENOSPC: 'The file system is full. Free space on it, then run again: what was stored before is untouched.',
  EDQUOT: 'The quota is used up. Raise it or free space, then run again: what was stored before is untouched.',
  EACCES: 'Give the user that runs refpoint the right to read and write the repository.',
  EPERM: 'Give the user that runs refpoint the right to read and write the repository.',
  EFBIG: 'A limit on the size of files is in the way: raise it (ulimit -f), or use a file system that allows larger ones.',
  EROFS: 'The file system is mounted read-only, perhaps after an error; see the kernel log.',
  EIO: 'The storage reported an error; see the kernel log, and check the disk or the connection.',
  ESTALE: 'The network file system was remounted or its server restarted; mount it again.',
  ENAMETOOLONG: 'Choose a shorter machine name.',
  ELOOP: 'Symbolic links inside a repository are not followed.',
  EMFILE: 'Too many open files; raise the limit (ulimit -n).',
}

/** The system's error as refpoint's: what was being done, to which object, and what to do about it. */
export function storageError(doing: string, path: string, error: unknown): unknown {
  if (error instanceof RefpointError || !(error instanceof Error) || !('syscall' in error)) return error
  const code = errorCode(error) ?? 'unknown error'
  const hint = hints[code]
  return new RefpointError('io', `can't ${doing} ${path}: ${inWords(error, code)}`, {
    ...(hint === undefined ? {} : { hint }),
    cause: error,
    fields: { path, code },
  })
}

/** Node's messages are such as "ENOSPC: no space left on device, write": the middle of it is for people. */
function inWords(error: Error, code: string): string {
  const words = /^[A-Z0-9]+: ([^,]+)/.exec(error.message)?.[1]
  return words === undefined ? code : `${words} (${code})`
}

export function errorCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined
}

/** Whether the error says that nothing is there; a path that leads through a file leads nowhere. */
export function isMissing(error: unknown): boolean {
  const code = errorCode(error)
  return code === 'ENOENT' || code === 'ENOTDIR'
}
