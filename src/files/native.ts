import { getSystemErrorName } from 'node:util'

/**
 * System calls that Node does not have, on file descriptors, synchronous. Offsets and lengths are bytes. Where the
 * file system (or device) has no such operation the answer is `false`; any other failure throws an error with Node's
 * own `code` and `syscall`.
 */
export interface Native {
  /** The first offset at or after `offset` that is not in a hole; undefined where only a hole follows. */
  nextData(fd: number, offset: number): number | undefined
  /** The first offset at or after `offset` that is in a hole; the end of a file counts as one. */
  nextHole(fd: number, offset: number): number
  /** Frees a range, which then reads as zeroes; never changes the size. */
  punchHole(fd: number, offset: number, length: number): boolean
  /** Makes a range read as zeroes, keeping its space allocated; never changes the size. */
  zeroRange(fd: number, offset: number, length: number): boolean
  /** Makes the file `toFd` a copy of `fromFd` that shares its space (FICLONE); one instant of the source. */
  cloneFile(toFd: number, fromFd: number): boolean
  /** An exclusive lock of the whole file (flock), gone with the descriptor; false when somebody else holds it. */
  lockFile(fd: number): boolean
  /** Takes or gives back a lock of a byte range, owned by the open file (OFD); false when somebody is in the way. */
  ofdLock(fd: number, start: number, length: number, kind: 'read' | 'write' | 'unlock'): boolean
  /** Whether such a lock could be had now. */
  ofdTest(fd: number, start: number, length: number, kind: 'read' | 'write'): boolean
  /** Size of an open block device in bytes. */
  blockDeviceSize(fd: number): number
}

// From the Linux headers; the same on x64 and arm64.
const SEEK_DATA = 3
const SEEK_HOLE = 4
const KEEP_SIZE = 0x01
const PUNCH_HOLE = 0x02
const ZERO_RANGE = 0x10
const FICLONE = 0x40049409
const BLKGETSIZE64 = 0x80081272
const LOCK_EX_NB = 2 | 4
const F_OFD_GETLK = 36
const F_OFD_SETLK = 37
const lockTypes = { read: 0, write: 1, unlock: 2 } as const
const errnos = {
  EINTR: 4,
  ENXIO: 6,
  EAGAIN: 11,
  EACCES: 13,
  EXDEV: 18,
  EINVAL: 22,
  ENOTTY: 25,
  ENOSYS: 38,
  EOPNOTSUPP: 95,
} as const

let loading: Promise<Native | undefined> | undefined

/**
 * Loads the native calls, once per thread. Undefined where there are none: on another system than 64-bit Linux,
 * without the optional package koffi, or when the environment says `REFPOINT_NATIVE=off`. Callers then do without:
 * read holes as data, write zeroes.
 */
export function loadNative(): Promise<Native | undefined> {
  loading ??= load().catch(() => undefined)
  return loading
}

async function load(): Promise<Native | undefined> {
  const supported = process.platform === 'linux' && (process.arch === 'x64' || process.arch === 'arm64')
  if (!supported || process.env['REFPOINT_NATIVE'] === 'off') return undefined
  const { default: koffi } = await import('koffi')
  const libc = openLibc((name) => koffi.load(name))
  const lseek = libc.func('int64_t lseek(int fd, int64_t offset, int whence)')
  const fallocate = libc.func('int fallocate(int fd, int mode, int64_t offset, int64_t length)')
  const flock = libc.func('int flock(int fd, int operation)')
  const ioctl = libc.func('int ioctl(int fd, unsigned long request, ...)')
  const fcntl = libc.func('int fcntl(int fd, int command, ...)')

  /** Calls until it is not interrupted; the result, or the negative error number. */
  function call(operation: () => unknown): number {
    for (;;) {
      const result = Number(operation())
      if (result !== -1) return result
      const errno = koffi.errno()
      if (errno !== errnos.EINTR) return -errno
    }
  }

  function attempt(syscall: string, unsupported: readonly number[], operation: () => unknown): boolean {
    const result = call(operation)
    if (result >= 0) return true
    if (unsupported.includes(-result)) return false
    throw systemError(syscall, -result)
  }

  const noFallocate: number[] = [errnos.EOPNOTSUPP, errnos.ENOSYS, errnos.EINVAL]
  const noClone: number[] = [errnos.EOPNOTSUPP, errnos.EXDEV, errnos.EINVAL, errnos.ENOTTY, errnos.ENOSYS]
  const taken: number[] = [errnos.EAGAIN, errnos.EACCES]

  return {
    nextData(fd, offset) {
      const result = call(() => lseek(fd, offset, SEEK_DATA))
      if (result === -errnos.ENXIO) return undefined
      if (result < 0) throw systemError('lseek', -result)
      return result
    },
    nextHole(fd, offset) {
      const result = call(() => lseek(fd, offset, SEEK_HOLE))
      if (result === -errnos.ENXIO) return offset
      if (result < 0) throw systemError('lseek', -result)
      return result
    },
    punchHole: (fd, offset, length) =>
      attempt('fallocate', noFallocate, () => fallocate(fd, PUNCH_HOLE | KEEP_SIZE, offset, length)),
    zeroRange: (fd, offset, length) =>
      attempt('fallocate', noFallocate, () => fallocate(fd, ZERO_RANGE | KEEP_SIZE, offset, length)),
    cloneFile: (toFd, fromFd) => attempt('ioctl', noClone, () => ioctl(toFd, FICLONE, 'int', fromFd)),
    lockFile: (fd) => attempt('flock', taken, () => flock(fd, LOCK_EX_NB)),
    ofdLock(fd, start, length, kind) {
      const record = lockRecord(start, length, lockTypes[kind])
      return attempt('fcntl', taken, () => fcntl(fd, F_OFD_SETLK, 'void *', record))
    },
    ofdTest(fd, start, length, kind) {
      const record = lockRecord(start, length, lockTypes[kind])
      const result = call(() => fcntl(fd, F_OFD_GETLK, 'void *', record))
      if (result < 0) throw systemError('fcntl', -result)
      return record.readInt16LE(0) === lockTypes.unlock
    },
    blockDeviceSize(fd) {
      const answer = Buffer.alloc(8)
      const result = call(() => ioctl(fd, BLKGETSIZE64, 'void *', answer))
      if (result < 0) throw systemError('ioctl', -result)
      return Number(answer.readBigUInt64LE())
    },
  }
}

/** glibc, else musl, whose one file is libc and loader in one. */
function openLibc<T>(open: (name: string) => T): T {
  const musl = process.arch === 'x64' ? 'libc.musl-x86_64.so.1' : 'libc.musl-aarch64.so.1'
  try {
    return open('libc.so.6')
  } catch {
    return open(musl)
  }
}

/** `struct flock` of 64-bit Linux: type i16, whence i16, padding, start i64, length i64, pid i32 (0 for OFD locks). */
function lockRecord(start: number, length: number, type: number): Buffer {
  const record = Buffer.alloc(32)
  record.writeInt16LE(type, 0)
  record.writeBigInt64LE(BigInt(start), 8)
  record.writeBigInt64LE(BigInt(length), 16)
  return record
}

function systemError(syscall: string, errno: number): NodeJS.ErrnoException {
  const code = getSystemErrorName(-errno)
  return Object.assign(new Error(`${code}: ${syscall} failed`), { errno: -errno, code, syscall })
}
