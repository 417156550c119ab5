import { Command, CommanderError, Option } from 'commander'
import type { Context, GlobalOptions } from './context.js'
import { diskCommand } from './disk.js'
import type { DiskActions } from './disk-actions.js'
import { countValue } from './option-values.js'
import type { Output } from './output.js'
import { createOutput } from './output.js'
import { reportError } from './report-error.js'
import type { Services } from './services.js'

export interface ProgramOptions {
  readonly version: string
  readonly services: () => Promise<Services>
  readonly disk: () => Promise<DiskActions>
  readonly signal: AbortSignal
  readonly cwd: string
  readonly env: NodeJS.ProcessEnv
  readonly stdout: Parameters<typeof createOutput>[0]['stdout']
  readonly stderr: Parameters<typeof createOutput>[0]['stderr']
}

/** Runs one command line (without node and script) and returns the exit status. Never throws. */
export async function runProgram(args: readonly string[], options: ProgramOptions): Promise<number> {
  const { stdout, stderr } = options
  const outputFor = (json: boolean): Output => createOutput({ json, stdout, stderr })
  try {
    await buildProgram(args, options, outputFor).parseAsync([...args], { from: 'user' })
    return 0
  } catch (error) {
    return reportError(error, outputFor(args.includes('--json')), options.env)
  }
}

function buildProgram(args: readonly string[], options: ProgramOptions, outputFor: (json: boolean) => Output): Command {
  const { signal, cwd, env, services } = options
  const context = (command: Command): Context => ({
    output: outputFor(command.optsWithGlobals<GlobalOptions>().json === true),
    services,
    signal,
    cwd,
    env,
    command: `refpoint ${args.join(' ')}`,
  })
  const program = new Command('refpoint')
    .description('Image-level incremental backups of virtual machines and block storage')
    .version(options.version)
    .option(
      '--config <file>',
      'configuration (default: ./refpoint.yaml, $REFPOINT_CONFIG, /etc/refpoint/refpoint.yaml)',
    )
    .option('--repository <folder>', 'the repository, instead of the one in the configuration')
    .option('--json', 'one JSON document on stdout, events as JSON lines on stderr')
    .addHelpText('after', statuses)
    .configureOutput({
      writeOut: (text) => options.stdout.write(text),
      writeErr: (text) => options.stderr.write(text),
    })
    .exitOverride((error) => {
      // Commander prints help and leaves with 1 where no command was given; a missing command is a usage error.
      if (error.code === 'commander.help') throw new CommanderError(2, error.code, error.message)
      throw error
    })
  const add = (command: Command): Command => {
    program.addCommand(command)
    return command
  }

  add(new Command('init'))
    .description('create the repository, in the folder that is given or configured')
    .argument('[dir]', 'an empty folder, or one that does not exist yet')
    .addHelpText('after', '\nExample:\n  refpoint init /srv/backup')
    .action(async (dir: string | undefined, _flags: object, command: Command) => {
      const { init } = await import('./init.js')
      await init(context(command), dir, command.optsWithGlobals())
    })

  add(new Command('backup'))
    .description('take a recovery point: incremental where possible, else full, and say why')
    .argument('[machine...]', 'machines of the configuration; may be left out if there is only one')
    .option('--all', 'every machine of the configuration')
    .addOption(new Option('--full', 'store everything').conflicts('incremental'))
    .option('--incremental', 'fail rather than store everything')
    .option('--quiet-if-running', 'say nothing when the run before is still going, unless it is the second time in a row')
    .option('--adopt', 'go on with a machine that was backed up from another host so far')
    .addHelpText(
      'after',
      '\nExamples:\n  refpoint backup web01\n  refpoint backup --all\n  refpoint backup web01 --full',
    )
    .action(async (machines: string[], _flags: object, command: Command) => {
      const { backup } = await import('./backup.js')
      await backup(context(command), machines, command.optsWithGlobals())
    })

  add(new Command('points'))
    .description('list the recovery points')
    .argument('[machine]')
    .addHelpText('after', '\nExamples:\n  refpoint points\n  refpoint points web01 --json')
    .action(async (machine: string | undefined, _flags: object, command: Command) => {
      const { points } = await import('./points.js')
      await points(context(command), machine, command.optsWithGlobals())
    })

  add(new Command('show'))
    .description('tell everything about one recovery point')
    .argument('<machine>')
    .argument('<point>', 'latest, a point such as 42, or a time')
    .addHelpText('after', '\nExample:\n  refpoint show web01 42')
    .action(async (machine: string, point: string, _flags: object, command: Command) => {
      const { show } = await import('./points.js')
      await show(context(command), machine, point, command.optsWithGlobals())
    })

  add(new Command('restore'))
    .description('restore disks at a point in time')
    .argument('<machine>')
    .requiredOption(
      '--at <when>',
      'latest, a point such as 42, a day, or a time (local unless it has a zone): the newest point at or before it',
    )
    .option('--to <dir>', 'a folder for new files, one for each disk, and the machine’s configuration')
    .addOption(new Option('--format <format>', 'of the new files').choices(['raw', 'qcow2']))
    .option('--write-to <target>', 'one disk onto an existing device or file, byte for byte')
    .option('--store <disk...>', 'only these disks')
    .option('--force', 'overwrite what is there')
    .addHelpText(
      'after',
      '\nExamples:\n' +
        '  refpoint restore web01 --at latest --to ./restored\n' +
        '  refpoint restore web01 --at 2026-01-31T03:00 --to ./restored --store root\n' +
        '  refpoint restore web01 --at latest --to ./restored --format qcow2\n' +
        '  refpoint restore web01 --at 42 --store root --write-to /dev/vg/root --force\n' +
        '  refpoint restore web01 --at latest --to ./restored --repository /mnt/backup',
    )
    .action(async (machine: string, _flags: object, command: Command) => {
      const { restore } = await import('./restore.js')
      await restore(context(command), machine, command.optsWithGlobals())
    })

  add(new Command('verify'))
    .description('prove that points can be restored, from manifest to byte; name everything that is damaged')
    .argument('[machine]', 'every machine when left out')
    .option('--at <when>', 'only this point, with all that it needs')
    .option('--all', 'every machine')
    .option('--quick', 'only what tells without reading payload')
    .option('--budget <time>', 'stop after this long; begin with what was not verified for the longest time')
    .addHelpText(
      'after',
      '\nExamples:\n  refpoint verify\n  refpoint verify web01 --at latest\n  refpoint verify --quick\n  refpoint verify --all --budget 30m',
    )
    .action(async (machine: string | undefined, _flags: object, command: Command) => {
      const { verifyCommand } = await import('./verify.js')
      await verifyCommand(context(command), machine, command.optsWithGlobals())
    })

  add(new Command('copy'))
    .description('bring points into another repository, only what is missing there')
    .argument('[machine...]', 'every machine of the repository when left out')
    .requiredOption('--to <repository>', 'a folder, or a name among the repositories of the configuration')
    .addOption(new Option('--last <n>', 'only the newest n points of each machine').argParser(countValue))
    .addOption(new Option('--by-rules', 'only points that keep in the configuration names').conflicts('last'))
    .addHelpText(
      'after',
      '\nWhat the points build on is copied too. Damage is told, not copied, and the exit status is 13 then.\n' +
        '\nExamples:\n  refpoint copy --to /mnt/offsite\n  refpoint copy web01 --to offsite --last 7\n' +
        '  refpoint copy --to offsite --by-rules',
    )
    .action(async (machines: string[], _flags: object, command: Command) => {
      const { copy } = await import('./copy.js')
      await copy(context(command), machines, command.optsWithGlobals())
    })

  add(new Command('salvage'))
    .description('restore what can be restored of a damaged point, and list exactly what can not')
    .argument('<machine>')
    .requiredOption('--at <when>', 'latest, a point such as 42, a day, or a time, as with restore')
    .requiredOption('--to <dir>', 'a folder for <disk>.salvaged.raw, and for salvage.json, the list')
    .option('--store <disk...>', 'only these disks')
    .option('--with-older', 'where a lost archive may have held newer content, what older points hold instead of zeroes')
    .option('--force', 'overwrite what is there')
    .addHelpText(
      'after',
      '\nWhat is not listed is proven to be what it was. The exit status is 13 unless nothing is lost.\n' +
        '\nExamples:\n  refpoint salvage web01 --at latest --to ./salvaged\n' +
        '  refpoint salvage web01 --at 42 --to ./salvaged --store root --with-older',
    )
    .action(async (machine: string, _flags: object, command: Command) => {
      const { salvage } = await import('./salvage.js')
      await salvage(context(command), machine, command.optsWithGlobals())
    })

  add(new Command('audit'))
    .description('check on a tracker: are the blocks what they were that it calls unchanged? Takes no point')
    .argument('<machine>')
    .option('--full', 'every block, whatever the budget; a tracker that is not trusted is trusted again if all are')
    .addHelpText('after', '\nExamples:\n  refpoint audit web01\n  refpoint audit web01 --full')
    .action(async (machine: string, _flags: object, command: Command) => {
      const { audit } = await import('./audit.js')
      await audit(context(command), machine, command.optsWithGlobals())
    })

  add(new Command('status'))
    .description('how every machine is doing, on one screen; exits with 4 when somebody should look')
    .addHelpText('after', '\nExamples:\n  refpoint status\n  refpoint status --json')
    .action(async (_flags: object, command: Command) => {
      const { status } = await import('./status.js')
      await status(context(command), command.optsWithGlobals())
    })

  add(new Command('cron'))
    .description('print what makes cron, or systemd, run things when the configuration says')
    .option('--systemd', 'unit files for systemd instead of a crontab')
    .option('--to <dir>', 'with --systemd: write the files there instead of printing them')
    .option('--personal', "lines for a user's own crontab, without the column that names the user")
    .addHelpText(
      'after',
      '\nExamples:\n  refpoint cron > /etc/cron.d/refpoint\n  refpoint cron --systemd --to /etc/systemd/system',
    )
    .action(async (_flags: object, command: Command) => {
      const { cron } = await import('./cron.js')
      await cron(context(command), command.optsWithGlobals())
    })

  add(new Command('doctor'))
    .description('look whether a machine can be backed up, and what its incrementals will cost')
    .argument('[machine]', 'a machine of the configuration; may be left out if there is only one')
    .option('--fix', 'remove what killed runs left')
    .addHelpText('after', '\nExamples:\n  refpoint doctor web01\n  refpoint doctor web01 --fix')
    .action(async (machine: string | undefined, _flags: object, command: Command) => {
      const { doctor } = await import('./doctor.js')
      await doctor(context(command), machine, command.optsWithGlobals())
    })

  add(new Command('prune'))
    .description('let go of the points that no rule of the configuration (keep) names')
    .argument('[machine]', 'every machine that has rules when left out')
    .option('--dry-run', 'only tell what stays, by which rule, and what goes')
    .option('--quiet-if-running', 'say nothing of a machine that is locked, unless it is the second time in a row')
    .addHelpText('after', '\nExamples:\n  refpoint prune --dry-run\n  refpoint prune web01')
    .action(async (machine: string | undefined, _flags: object, command: Command) => {
      const { prune } = await import('./prune.js')
      await prune(context(command), machine, command.optsWithGlobals())
    })

  add(new Command('hold'))
    .description('keep a point from being pruned, whatever the rules say')
    .argument('<machine>')
    .argument('<point>', 'latest, a point such as 42, or a time')
    .requiredOption('--why <text>', 'for whoever wonders in a year')
    .addHelpText('after', '\nExample:\n  refpoint hold web01 42 --why "before the migration"')
    .action(async (machine: string, point: string, _flags: object, command: Command) => {
      const { hold } = await import('./hold.js')
      await hold(context(command), machine, point, command.optsWithGlobals())
    })

  add(new Command('release'))
    .description('let the rules decide again about a point that was held')
    .argument('<machine>')
    .argument('<point>', 'latest, a point such as 42, or a time')
    .addHelpText('after', '\nExample:\n  refpoint release web01 42')
    .action(async (machine: string, point: string, _flags: object, command: Command) => {
      const { release } = await import('./hold.js')
      await release(context(command), machine, point, command.optsWithGlobals())
    })

  add(diskCommand({ output: (command) => context(command).output, signal }, options.disk))
  for (const command of program.commands) inherit(command, program)
  return program
}

/** `addCommand` leaves a command's own settings alone: how it ends and where it prints are the program's. */
function inherit(command: Command, parent: Command): void {
  command.copyInheritedSettings(parent)
  for (const child of command.commands) inherit(child, command)
}

const statuses = `
Exit statuses:
  0 done                        10 no repository
  1 unexpected, or the system   11 locked by another run
  2 usage or configuration      12 wrong key
  3 some machines failed        13 damaged
  4 somebody should look        14 the tracker failed
                               130 cancelled`
