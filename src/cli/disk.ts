import { Command } from 'commander'
import type { CommandContext } from './command-context.js'
import type { DiskActions } from './disk-actions.js'
import type { DiskRun, ServeOptions } from './disk-run.js'
import { sizeValue, tcpValue } from './option-values.js'

/** `refpoint disk …`: the embedded tracked disk. What does the work is loaded when a command of it runs. */
export function diskCommand(context: CommandContext, load: () => Promise<DiskActions>): Command {
  const disk = new Command('disk').description('tracked disks: differencing overlays on a parent, served over NBD')
  const run = async (command: Command): Promise<DiskRun> => {
    return { actions: await load(), output: context.output(command), signal: context.signal }
  }
  const work = (): Promise<typeof import('./disk-run.js')> => import('./disk-run.js')
  const add = (name: string, description: string, example: string): Command => {
    return disk
      .command(name)
      .description(description)
      .addHelpText('after', `\nExample:\n${example.replace(/^/gm, '  ')}`)
  }
  const blockSize = ['--block-size <size>', 'piece that is tracked as a whole, 4KiB to 1MiB', sizeValue] as const

  add('create', 'create an empty disk in a new folder', 'refpoint disk create ./disks/root --size 20GiB')
    .argument('<folder>')
    .requiredOption('--size <size>', 'size of the disk, such as 20GiB', sizeValue)
    .option(...blockSize)
    .action(async (folder: string, options: { size: number; blockSize?: number }, command: Command) => {
      await (await work()).create(await run(command), folder, options)
    })

  add(
    'import',
    'create a disk with the content of a raw image or block device, which must be at rest',
    'refpoint disk import ./root.img ./disks/root',
  )
    .argument('<image>')
    .argument('<folder>')
    .option(...blockSize)
    .action(async (image: string, folder: string, options: { blockSize?: number }, command: Command) => {
      await (await work()).importImage(await run(command), image, folder, options)
    })

  add(
    'serve',
    'serve disks over NBD until stopped; backups run beside it',
    'refpoint disk serve ./disks/root\n' +
      'refpoint disk serve ./disks/root ./disks/data --socket /run/web01/nbd.sock\n' +
      'qemu-system-x86_64 … -drive file="nbd+unix:///root?socket=/run/web01/nbd.sock",format=raw,discard=unmap',
  )
    .argument('<folder...>', 'the disks of one machine: a checkpoint is one instant over all of them')
    .option('--socket <path>', 'unix socket (default for one disk: nbd.sock in its folder)')
    .option('--tcp <address>', 'a port, or a loopback address with a port', tcpValue)
    .action(async (folders: string[], options: ServeOptions, command: Command) => {
      await (await work()).serve(await run(command), folders, options)
    })

  add(
    'checkpoint',
    'keep the present state of disks under a name, to roll back to',
    'refpoint disk checkpoint before-upgrade ./disks/root ./disks/data',
  )
    .argument('<name>')
    .argument('<folder...>', 'several are kept at one instant')
    .action(async (name: string, folders: string[], _options: object, command: Command) => {
      await (await work()).checkpoint(await run(command), name, folders)
    })

  add(
    'rollback',
    'take disks back to a checkpoint: what was written since is gone for good',
    'refpoint disk rollback before-upgrade ./disks/root ./disks/data',
  )
    .argument('<name>')
    .argument('<folder...>', 'one after the other; what is done is told')
    .action(async (name: string, folders: string[], _options: object, command: Command) => {
      await (await work()).rollback(await run(command), name, folders)
    })

  add(
    'merge',
    'give a checkpoint up: its overlay is folded into its parent, and no content changes',
    'refpoint disk merge before-upgrade ./disks/root ./disks/data',
  )
    .argument('<name>')
    .argument('<folder...>', 'one after the other; what is done is told')
    .action(async (name: string, folders: string[], _options: object, command: Command) => {
      await (await work()).merge(await run(command), name, folders)
    })

  add(
    'resize',
    'change the size of a disk; shrinking cuts its end off for good',
    'refpoint disk resize ./disks/root 30GiB',
  )
    .argument('<folder>')
    .argument('<size>', 'the new size, such as 30GiB', sizeValue)
    .option('--shrink', 'allow to make it smaller')
    .action(async (folder: string, size: number, options: { shrink?: boolean }, command: Command) => {
      await (await work()).resize(await run(command), folder, size, options)
    })

  add('info', 'tell all of one disk', 'refpoint disk info ./disks/root')
    .argument('<folder>')
    .action(async (folder: string, _options: object, command: Command) => {
      await (await work()).info(await run(command), folder)
    })

  add('list', 'list the disks in a folder', 'refpoint disk list ./disks')
    .argument('[folder]', 'where to look', '.')
    .action(async (folder: string, _options: object, command: Command) => {
      await (await work()).list(await run(command), folder)
    })
  return disk
}
