import { createHash } from 'node:crypto'

/** What the frames in `frames/` hold, by name: the same on every machine. */
export const contents: Readonly<Record<string, Buffer>> = {
  text: Buffer.from(Array.from({ length: 400 }, (_, line) => `line ${line}: ${(line * line) % 97}\n`).join('')),
  noise: Buffer.concat(Array.from({ length: 64 }, (_, at) => createHash('sha256').update(String(at)).digest())),
  zeroes: Buffer.alloc(1024 ** 2),
}
