import { type ChildProcess, spawn } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { onTestFinished } from 'vitest'
import { openNbdSource } from '../../../src/nbd/nbd-source.js'
import { createQcow2Tracker } from '../../../src/trackers/qcow2/qcow2-tracker.js'
import type { TrackedMachine } from '../../conformance/tracker.js'
import { makeImage } from '../../qemu/images.js'
import { temporaryFolder } from '../../temporary.js'

const mib = 1024 * 1024
export const sizes = { root: 6 * mib, data: 4 * mib } as const

/** A machine that is shut down; writes are those of a guest that runs for a moment. */
export interface OfflineMachine extends TrackedMachine {
  readonly folder: string
  pathOf(store: string): string
}

export async function offlineMachine(): Promise<OfflineMachine> {
  const folder = temporaryFolder()
  const pathOf = (store: string): string => join(folder, `${store}.qcow2`)
  for (const name of ['root', 'data'] as const) await makeImage(pathOf(name), 'qcow2', sizes[name])
  const images = {
    root: { path: pathOf('root'), format: 'qcow2' },
    data: { path: pathOf('data'), format: 'qcow2' },
  } as const
  const trackerOf = () => createQcow2Tracker({ images, granularityBytes: undefined })
  let writes = 0
  return {
    folder,
    pathOf,
    tracker: trackerOf(),
    another: trackerOf,
    stores: [
      { name: 'root', sizeBytes: sizes.root },
      { name: 'data', sizeBytes: sizes.data },
    ],
    files: [],
    async write(store, bytes, offset) {
      const source = join(folder, `write-${(writes += 1)}`)
      await writeFile(source, bytes)
      await qemuIo(pathOf(store), `write -s ${source} ${offset} ${bytes.length}`)
    },
    zero: (store, offset, length) => qemuIo(pathOf(store), `write -z -u ${offset} ${length}`),
    openSource(source) {
      if (source.kind !== 'nbd') throw new Error(`a source of kind ${source.kind}`)
      return openNbdSource(source)
    },
    async crashLayer() {
      for (const name of ['root', 'data']) await killWriter(pathOf(name))
    },
    async resize(store, sizeBytes) {
      await execa('qemu-img', ['resize', '-q', '--shrink', '-f', 'qcow2', pathOf(store), String(sizeBytes)])
    },
  }
}

export async function qemuIo(path: string, command: string): Promise<void> {
  const { stdout } = await execa('qemu-io', ['-f', 'qcow2', '-c', command, '-c', 'flush', path])
  if (!/^(wrote|discard|read) /m.test(stdout)) throw new Error(`qemu-io ${command}: ${stdout}`)
}

/** A program of QEMU that has an image open for writing until the test ends; undefined when it is refused. */
export async function holdOpen(path: string, format = 'qcow2'): Promise<ChildProcess | undefined> {
  const child = spawn('qemu-io', ['-f', format, path], { stdio: ['pipe', 'pipe', 'ignore'] })
  onTestFinished(() => void child.kill('SIGKILL'))
  child.stdin.on('error', () => {})
  child.stdin.write('read 0 512\n')
  for await (const piece of child.stdout) if (String(piece).includes('read 512/512')) return child
  return undefined
}

/** Has a writer of the image die without saving anything, as by a power cut; not where the image is locked. */
export async function killWriter(path: string): Promise<void> {
  const child = await holdOpen(path)
  if (child === undefined) return
  const ended = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGKILL')
  await ended
}

export interface StoredBitmap {
  readonly name: string
  readonly flags: readonly string[]
  readonly granularity: number
}

/** The bitmaps that an image has stored, by qemu-img. */
export async function storedBitmaps(path: string): Promise<readonly StoredBitmap[]> {
  const { stdout } = await execa('qemu-img', ['info', '-U', '-f', 'qcow2', '--output=json', path])
  const info = JSON.parse(stdout) as { 'format-specific': { data: { bitmaps?: StoredBitmap[] } } }
  return info['format-specific'].data.bitmaps ?? []
}
