import { closeSync, openSync, readSync, readlinkSync } from 'node:fs'
import { RefpointError } from '../../model/errors.js'
import type { FileSource, SourceReader } from '../../model/source.js'

/**
 * Opens a reader of a file or block device, for one thread. Reads are synchronous and go straight into the caller's
 * buffer. What lies past the file's end, or past `sizeBytes`, is zeroes.
 * @throws RefpointError `io` when the system refuses.
 */
export function openFileSource(source: FileSource): SourceReader {
  const fd = attempt('open', source, 0, () => openSync(source.path, 'r'))
  let open = true
  return {
    read(into, offset) {
      const wanted = Math.max(0, Math.min(into.length, source.sizeBytes - offset))
      let done = 0
      while (done < wanted) {
        const from = done
        const count = attempt('read', source, offset + from, () => {
          return readSync(fd, into, from, wanted - from, offset + from)
        })
        if (count === 0) break
        done += count
      }
      into.fill(0, done)
    },
    close() {
      if (open) closeSync(fd)
      open = false
    },
  }
}

function attempt(what: 'open' | 'read', source: FileSource, offset: number, operation: () => number): number {
  try {
    return operation()
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause)
    const at = what === 'read' ? ` at byte ${offset}` : ''
    throw new RefpointError('io', `can't ${what} ${nameOf(source.path)}${at}: ${why}`, {
      hint: 'Nothing was committed. Check the disk under it (dmesg tells read errors) and run again.',
      cause,
      fields: { path: source.path, offset },
    })
  }
}

/** A checkpoint's source is named through a descriptor: people want the file's own name. */
function nameOf(path: string): string {
  if (!path.startsWith('/proc/')) return path
  try {
    return readlinkSync(path)
  } catch {
    return path
  }
}
