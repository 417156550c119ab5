import type { Native } from '../../files/native.js'

/*
 * QEMU's image locking (its block/file-posix.c): per permission of its block layer, one byte that is locked shared by
 * whoever uses the permission, and one by whoever does not want others to use it.
 *
 *   permission        bit   in use   not shared
 *   consistent read    0     100        200
 *   write              1     101        201
 *   write unchanged    2     102        202
 *   resize             3     103        203
 *
 * Everybody locks first and looks afterwards, so that of two who come at once at least one sees the other. A backup
 * reads consistently, and shares neither writing nor resizing; other readers, other backups too, are welcome.
 */
const held = [100, 201, 203]
const conflicting = [101, 103, 200]

/**
 * Locks an open image against QEMU, until the descriptor is closed.
 * @returns false when a QEMU process writes to it, or shares it with no reader; then nothing is locked.
 * @throws the system's error where the file system has no such locks.
 */
export function lockImage(native: Native, fd: number): boolean {
  // First a look without locks: a running guest is not to be disturbed for a moment.
  if (!isFree(native, fd)) return false
  if (held.every((byte) => native.ofdLock(fd, byte, 1, 'read')) && isFree(native, fd)) return true
  unlockImage(native, fd)
  return false
}

/** Gives the locks back while the descriptor stays open. */
export function unlockImage(native: Native, fd: number): void {
  for (const byte of held) native.ofdLock(fd, byte, 1, 'unlock')
}

function isFree(native: Native, fd: number): boolean {
  return conflicting.every((byte) => native.ofdTest(fd, byte, 1, 'write'))
}
