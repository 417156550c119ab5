import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'

/**
 * Names this host, the same over reboots: a digest of the machine ID, which itself should not leave the host; of the
 * host's name where the system keeps no such ID.
 */
export function hostIdentity(): string {
  const id = readFirst(['/etc/machine-id', '/var/lib/dbus/machine-id']) ?? `name:${hostname()}`
  return createHash('sha256').update(`refpoint host\n${id}`).digest('hex').slice(0, 32)
}

function readFirst(paths: readonly string[]): string | undefined {
  for (const path of paths) {
    try {
      const text = readFileSync(path, 'utf8').trim()
      if (/^[0-9a-f]{32}$/.test(text)) return text
    } catch {
      // Not every system has one: the next place is asked.
    }
  }
  return undefined
}
