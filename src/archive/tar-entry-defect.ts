import type { Header } from 'tar-stream'

/** What forbids a tar entry in an archive, or undefined. tar-stream waits forever for one whose size it can't read. */
export function tarEntryDefect(header: Header): string | undefined {
  if (!Number.isSafeInteger(header.size) || header.size < 0) return `${header.name} has no readable size`
  if (header.type !== 'file') return `${header.name} is a ${header.type}, not a file`
  return undefined
}
