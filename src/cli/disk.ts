import { join, resolve } from 'node:path'
import { Command } from 'commander'
import { RefpointError } from '../model/errors.js'
import type { CommandContext } from './command-context.js'
import type { DiskActions, ServeAddress } from './disk-actions.js'
import { showDisk, showDisks } from './disk-view.js'
import { formatBytes, formatTime } from './format.js'
import { sizeValue, tcpValue } from './option-values.js'

const blockSize = ['--block-size <size>', 'piece that is tracked as a whole, 4KiB to 1MiB', sizeValue] as const

/** `refpoint disk …`: the embedded tracked disk. Its code is loaded when a command of it runs. */
export function diskCommand(context: CommandContext, load: () => Promise<DiskActions>): Command {
  const disk = new Command('disk').description('tracked disks: differencing overlays on a parent, served over NBD')
  disk.addCommand(createCommand(context, load))
  disk.addCommand(importCommand(context, load))
  disk.addCommand(serveCommand(context, load))
  disk.addCommand(checkpointCommand(context, load))
  disk.addCommand(rollbackCommand(context, load))
  disk.addCommand(mergeCommand(context, load))
  disk.addCommand(resizeCommand(context, load))
  disk.addCommand(infoCommand(context, load))
  disk.addCommand(listCommand(context, load))
  return disk
}

type Load = () => Promise<DiskActions>

function createCommand(context: CommandContext, load: Load): Command {
  return new Command('create')
    .description('create an empty disk in a new folder')
    .argument('<folder>')
    .requiredOption('--size <size>', 'size of the disk, such as 20GiB', sizeValue)
    .option(...blockSize)
    .addHelpText('after', '\nExample:\n  refpoint disk create ./disks/root --size 20GiB')
    .action(async (folder: string, options: { size: number; blockSize?: number }, command: Command) => {
      const actions = await load()
      await actions.create(folder, { sizeBytes: options.size, ...blockBytes(options) })
      const output = context.output(command)
      output.line(`Created ${folder}: ${formatBytes(options.size)}. Serve it: refpoint disk serve ${folder}`)
      output.result(await actions.summary(folder))
    })
}

function importCommand(context: CommandContext, load: Load): Command {
  return new Command('import')
    .description('create a disk with the content of a raw image or block device, which must be at rest')
    .argument('<image>')
    .argument('<folder>')
    .option(...blockSize)
    .addHelpText('after', '\nExample:\n  refpoint disk import ./root.img ./disks/root')
    .action(async (image: string, folder: string, options: { blockSize?: number }, command: Command) => {
      const actions = await load()
      await actions.importImage(folder, image, blockBytes(options))
      const summary = await actions.summary(folder)
      const output = context.output(command)
      output.line(`Imported ${image} into ${folder}: ${formatBytes(summary.sizeBytes)}.`)
      output.result(summary)
    })
}

function serveCommand(context: CommandContext, load: Load): Command {
  return new Command('serve')
    .description('serve disks over NBD until stopped; backups run beside it')
    .argument('<folder...>', 'the disks of one machine: a checkpoint is one instant over all of them')
    .option('--socket <path>', 'unix socket (default: nbd.sock in the folder, if it is one)')
    .option('--tcp <address>', 'a port, or a loopback address with a port', tcpValue)
    .addHelpText(
      'after',
      '\nExamples:\n' +
        '  refpoint disk serve ./disks/root\n' +
        '  refpoint disk serve ./disks/root ./disks/data --socket /run/web01.sock\n' +
        '  qemu-system-x86_64 … -drive file="nbd+unix:///root?socket=/run/web01.sock",format=raw,discard=unmap',
    )
    .action(async (folders: string[], options: ServeOptions, command: Command) => {
      const output = context.output(command)
      const actions = await load()
      await using served = await actions.serve(folders, addressOf(folders, options))
      for (const { folder, uri } of served.exports) output.line(`${folder}: ${uri}`)
      output.event({ type: 'serving', exports: served.exports })
      await stopped(context.signal)
      output.note('Stopping: writing out what is cached.')
    })
}

interface ServeOptions {
  readonly socket?: string
  readonly tcp?: ServeAddress
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

/** To be told to stop is how a server ends: no failure. */
function stopped(signal: AbortSignal): Promise<void> {
  return new Promise((done) => {
    if (signal.aborted) done()
    else signal.addEventListener('abort', () => done(), { once: true })
  })
}

function checkpointCommand(context: CommandContext, load: Load): Command {
  return new Command('checkpoint')
    .description('keep the present state of disks under a name, to roll back to')
    .argument('<name>')
    .argument('<folder...>', 'several are kept at one instant')
    .addHelpText('after', '\nExample:\n  refpoint disk checkpoint before-upgrade ./disks/root ./disks/data')
    .action(async (name: string, folders: string[], _options: object, command: Command) => {
      const { time } = await (await load()).checkpoint(folders, name)
      const output = context.output(command)
      output.line(`Checkpoint ${name} of ${folders.join(', ')}: ${formatTime(time)}`)
      output.result({ name, folders, time })
    })
}

function rollbackCommand(context: CommandContext, load: Load): Command {
  return new Command('rollback')
    .description('take disks back to a checkpoint: what was written since is gone for good')
    .argument('<name>')
    .argument('<folder...>', 'one after the other; what is done is told')
    .addHelpText('after', '\nExample:\n  refpoint disk rollback before-upgrade ./disks/root ./disks/data')
    .action(async (name: string, folders: string[], _options: object, command: Command) => {
      const actions = await load()
      const output = context.output(command)
      for (const folder of folders) {
        await actions.rollback(folder, name)
        output.line(`Rolled back ${folder} to ${name}.`)
        output.event({ type: 'rolled-back', folder, name })
      }
      output.result({ name, folders })
    })
}

function mergeCommand(context: CommandContext, load: Load): Command {
  return new Command('merge')
    .description('give a checkpoint up: its overlay is folded into its parent, and no content changes')
    .argument('<name>')
    .argument('<folder...>')
    .addHelpText('after', '\nExample:\n  refpoint disk merge before-upgrade ./disks/root ./disks/data')
    .action(async (name: string, folders: string[], _options: object, command: Command) => {
      const actions = await load()
      const output = context.output(command)
      const merged: { folder: string; pending: boolean }[] = []
      for (const folder of folders) {
        const { pending } = await actions.merge(folder, name)
        const later = pending ? ' A backup reads it now: it is folded when that has ended.' : ''
        output.line(`Merged ${name} of ${folder}.${later}`)
        output.event({ type: 'merged', folder, name, pending })
        merged.push({ folder, pending })
      }
      output.result({ name, disks: merged })
    })
}

function resizeCommand(context: CommandContext, load: Load): Command {
  return new Command('resize')
    .description('change the size of a disk; shrinking cuts its end off for good')
    .argument('<folder>')
    .argument('<size>', 'the new size, such as 30GiB', sizeValue)
    .option('--shrink', 'allow to make it smaller')
    .addHelpText('after', '\nExample:\n  refpoint disk resize ./disks/root 30GiB')
    .action(async (folder: string, size: number, options: { shrink?: boolean }, command: Command) => {
      const actions = await load()
      const { sizeBytes } = await actions.summary(folder)
      if (size < sizeBytes && options.shrink !== true) {
        throw new RefpointError('usage', `${folder} has ${formatBytes(sizeBytes)}: ${formatBytes(size)} would cut it`, {
          hint: 'Shrink the file systems on it first, then say --shrink.',
          fields: { folder, sizeBytes, wantedBytes: size },
        })
      }
      await actions.resize(folder, size)
      const output = context.output(command)
      output.line(`Resized ${folder}: ${formatBytes(sizeBytes)} to ${formatBytes(size)}`)
      output.result({ folder, beforeBytes: sizeBytes, sizeBytes: size })
    })
}

function infoCommand(context: CommandContext, load: Load): Command {
  return new Command('info')
    .description('tell all of one disk')
    .argument('<folder>')
    .action(async (folder: string, _options: object, command: Command) => {
      const summary = await (await load()).summary(folder)
      const output = context.output(command)
      for (const line of showDisk(summary)) output.line(line)
      output.result(summary)
    })
}

function listCommand(context: CommandContext, load: Load): Command {
  return new Command('list')
    .description('list the disks in a folder')
    .argument('[folder]', 'where to look', '.')
    .action(async (folder: string, _options: object, command: Command) => {
      const disks = await (await load()).list(folder)
      const output = context.output(command)
      if (disks.length === 0) output.line(`No disks in ${resolve(folder)}.`)
      for (const line of showDisks(disks)) output.line(line)
      output.result(disks)
    })
}

function blockBytes({ blockSize: bytes }: { readonly blockSize?: number }): { readonly blockBytes?: number } {
  return bytes === undefined ? {} : { blockBytes: bytes }
}
