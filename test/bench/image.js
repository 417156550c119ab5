import { constants } from 'node:fs'
import { copyFile, lstat, mkdir, open, opendir, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { run } from './measure.js'

/** Programs, libraries and texts, with the share of the content that each may have. */
const origins = [
  ['/usr/bin', 0.25],
  ['/usr/lib', 0.5],
  ['/usr/share', 0.2],
  ['/usr', 1],
  ['/opt', 1],
]

/** A sparse image with a file system of this machine's own files; made once and kept. */
export async function makeImage(work, { imageBytes, contentBytes }) {
  const path = join(work, `image-${imageBytes / 2 ** 20}M.raw`)
  await mkdir(work, { recursive: true })
  if ((await stat(path).catch(() => undefined)) === undefined) {
    console.error(`Making the image ${path}: this takes some minutes, once.`)
    const tree = join(work, 'tree')
    await rm(tree, { recursive: true, force: true })
    await collect(tree, contentBytes)
    const making = `${path}.making`
    await rm(making, { force: true })
    await sparse(making, imageBytes)
    const env = 'PATH="$PATH:/usr/sbin:/sbin"'
    await run('sh', ['-c', `${env} mkfs.ext4 -q -F -E lazy_itable_init=1 -d "$1" "$2"`, 'sh', tree, making])
    await rm(tree, { recursive: true, force: true })
    await rename(making, path)
  }
  await run('sh', ['-c', 'cat "$1" > /dev/null', 'sh', path])
  const { size, blocks } = await stat(path)
  return { path, sizeBytes: size, allocatedBytes: blocks * 512 }
}

/** An empty sparse file. */
export async function sparse(path, bytes) {
  const file = await open(path, 'w')
  await file.truncate(bytes)
  await file.close()
}

/** A durable copy of the image that may be written to; it shares its space where the file system can. */
export async function copyImage(image, path) {
  await run('cp', ['--sparse=always', '--reflink=auto', image.path, path])
  await run('sync', [path])
}

async function collect(tree, limitBytes) {
  const state = { bytes: 0, seen: new Set() }
  for (const [origin, share] of origins) {
    await collectFolder(origin, join(tree, origin), state, Math.min(limitBytes, state.bytes + share * limitBytes))
  }
  if (state.bytes < 0.8 * limitBytes) console.error(`This machine has only ${state.bytes} bytes of files for the image.`)
}

async function collectFolder(from, to, state, limitBytes) {
  const folder = await opendir(from).catch(() => undefined)
  if (folder === undefined) return
  const entries = []
  for await (const entry of folder) entries.push(entry)
  await mkdir(to, { recursive: true })
  for (const entry of entries.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    if (state.bytes >= limitBytes) return
    const path = join(from, entry.name)
    if (entry.isDirectory()) await collectFolder(path, join(to, entry.name), state, limitBytes)
    else if (entry.isFile()) await collectFile(path, join(to, entry.name), state, limitBytes)
  }
}

async function collectFile(from, to, state, limitBytes) {
  const { dev, ino, size } = await lstat(from)
  const identity = `${dev}:${ino}`
  if (state.seen.has(identity) || state.bytes + size > limitBytes) return
  state.seen.add(identity)
  await copyFile(from, to, constants.COPYFILE_FICLONE).catch((error) => {
    if (error.code !== 'EACCES' && error.code !== 'EPERM' && error.code !== 'ENOENT') throw error
  })
  state.bytes += size
}
