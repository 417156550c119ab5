import { constants, open } from 'node:fs/promises'

export interface RegularFile {
  readonly content: Buffer
  readonly uid: number
  /** How many names it has. */
  readonly links: number
}

/**
 * The content of a regular file of at most `limitBytes`. A link is not followed unless `follow`, and what would block
 * or never end (a pipe, a device) is refused. @throws Error saying what is wrong, or the system's own.
 */
export async function readRegularFile(
  path: string,
  { limitBytes, follow = false }: { readonly limitBytes: number; readonly follow?: boolean },
): Promise<RegularFile> {
  const link = follow ? 0 : constants.O_NOFOLLOW
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK | link)
  try {
    const found = await file.stat()
    if (!found.isFile()) throw new Error(`${path} is no file`)
    if (found.size > limitBytes) throw new Error(`${path} is larger than ${limitBytes / 1024 ** 2} MiB`)
    const content = Buffer.alloc(found.size)
    let length = 0
    while (length < content.length) {
      const { bytesRead } = await file.read(content, length, content.length - length, length)
      if (bytesRead === 0) break
      length += bytesRead
    }
    return { content: content.subarray(0, length), uid: found.uid, links: found.nlink }
  } finally {
    await file.close()
  }
}
