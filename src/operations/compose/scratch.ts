import { mkdtempSync, rmSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

let folder: string | undefined
let count = 0

/** A sparse file in a private temporary folder, which goes with the process. */
export async function createScratch(sizeBytes: number): Promise<string> {
  if (folder === undefined) {
    const made = mkdtempSync(join(tmpdir(), 'refpoint-'))
    process.once('exit', () => rmSync(made, { recursive: true, force: true }))
    folder = made
  }
  const path = join(folder, String(count++))
  const file = await open(path, 'wx', 0o600)
  try {
    await file.truncate(sizeBytes)
  } finally {
    await file.close()
  }
  return path
}
