import { join, resolve } from 'node:path'
import { RefpointError } from '../model/errors.js'
import type { DiskActions, ServeAddress } from './disk-actions.js'
import { showDisk, showDisks } from './disk-view.js'
import { formatBytes, formatTime } from './format.js'
import type { Output } from './output.js'

/** What a command of `refpoint disk` works with. */
export interface DiskRun {
  readonly actions: DiskActions
  readonly output: Output
  readonly signal: AbortSignal
}

export interface ServeOptions {
  readonly socket?: string
  readonly tcp?: ServeAddress
}

interface BlockSize {
  readonly blockSize?: number
}

export async function create(
  { actions, output }: DiskRun,
  folder: string,
  { size, ...options }: BlockSize & { readonly size: number },
): Promise<void> {
  await actions.create(folder, { sizeBytes: size, ...blockBytes(options) })
  output.line(`Created ${folder}: ${formatBytes(size)}. Serve it: refpoint disk serve ${folder}`)
  output.result(await actions.summary(folder))
}

export async function importImage(
  { actions, output }: DiskRun,
  image: string,
  folder: string,
  options: BlockSize,
): Promise<void> {
  await actions.importImage(folder, image, blockBytes(options))
  const summary = await actions.summary(folder)
  output.line(`Imported ${image} into ${folder}: ${formatBytes(summary.sizeBytes)}.`)
  output.result(summary)
}

/** Serves until the signal aborts: to be told to stop is how a server ends, no failure. */
export async function serve(
  { actions, output, signal }: DiskRun,
  folders: readonly string[],
  options: ServeOptions,
): Promise<void> {
  await using served = await actions.serve(folders, addressOf(folders, options))
  for (const { folder, uri } of served.exports) output.line(`${folder}: ${uri}`)
  output.event({ type: 'serving', exports: served.exports })
  await aborted(signal)
  output.note('Stopping: writing out what is cached.')
}

function addressOf(folders: readonly string[], { socket, tcp }: ServeOptions): ServeAddress {
  if (socket !== undefined && tcp !== undefined) {
    throw new RefpointError('usage', '--socket and --tcp exclude each other', { hint: 'Say one of them.' })
  }
  if (tcp !== undefined) return tcp
  if (socket !== undefined) return { path: resolve(socket) }
  const [only, ...more] = folders
  if (only !== undefined && more.length === 0) return { path: resolve(join(only, 'nbd.sock')) }
  throw new RefpointError('usage', 'several disks are served on one socket, which needs a name', {
    hint: 'Say --socket <path>, or --tcp <port>.',
  })
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((done) => {
    if (signal.aborted) done()
    else signal.addEventListener('abort', () => done(), { once: true })
  })
}

/** Of all disks at one instant. */
export async function checkpoint(
  { actions, output }: DiskRun,
  name: string,
  folders: readonly string[],
): Promise<void> {
  const { time } = await actions.checkpoint(folders, name)
  output.line(`Checkpoint ${name} of ${folders.join(', ')}: ${formatTime(time)}`)
  output.result({ name, folders, time })
}

/** One disk after the other; each is told when it is done, so that a failure does not hide those before it. */
export async function rollback({ actions, output }: DiskRun, name: string, folders: readonly string[]): Promise<void> {
  for (const folder of folders) {
    await actions.rollback(folder, name)
    output.line(`Rolled back ${folder} to ${name}.`)
    output.event({ type: 'rolled-back', folder, name })
  }
  output.result({ name, folders })
}

/** As `rollback`, one after the other. */
export async function merge({ actions, output }: DiskRun, name: string, folders: readonly string[]): Promise<void> {
  const merged: { folder: string; pending: boolean }[] = []
  for (const folder of folders) {
    const { pending } = await actions.merge(folder, name)
    const later = pending ? ' A backup reads it now: it is folded when that has ended.' : ''
    output.line(`Merged ${name} of ${folder}.${later}`)
    output.event({ type: 'merged', folder, name, pending })
    merged.push({ folder, pending })
  }
  output.result({ name, disks: merged })
}

export async function resize(
  { actions, output }: DiskRun,
  folder: string,
  size: number,
  { shrink = false }: { readonly shrink?: boolean },
): Promise<void> {
  const { sizeBytes } = await actions.summary(folder)
  if (size < sizeBytes && !shrink) {
    throw new RefpointError('usage', `${folder} has ${formatBytes(sizeBytes)}: ${formatBytes(size)} would cut it`, {
      hint: 'Shrink the file systems on it first, then say --shrink.',
      fields: { folder, sizeBytes, wantedBytes: size },
    })
  }
  await actions.resize(folder, size)
  output.line(`Resized ${folder}: ${formatBytes(sizeBytes)} to ${formatBytes(size)}`)
  output.result({ folder, beforeBytes: sizeBytes, sizeBytes: size })
}

export async function info({ actions, output }: DiskRun, folder: string): Promise<void> {
  const summary = await actions.summary(folder)
  for (const line of showDisk(summary)) output.line(line)
  output.result(summary)
}

export async function list({ actions, output }: DiskRun, folder: string): Promise<void> {
  const disks = await actions.list(folder)
  if (disks.length === 0) output.line(`No disks in ${resolve(folder)}.`)
  for (const line of showDisks(disks)) output.line(line)
  output.result(disks)
}

function blockBytes({ blockSize }: BlockSize): { readonly blockBytes?: number } {
  return blockSize === undefined ? {} : { blockBytes: blockSize }
}
