import { mkdir, writeFile } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { basename, dirname, join, resolve } from 'node:path'
import type { Config } from '../config/config.js'
import { RefpointError } from '../model/errors.js'
import { systemZone } from '../schedule/expression.js'
import { onCalendar } from '../schedule/on-calendar.js'
import { type Context, type GlobalOptions, readConfig } from './context.js'
import { type ScheduledJob, scheduledJobs } from './scheduled-jobs.js'

export interface CronFlags extends GlobalOptions {
  readonly systemd?: boolean
  /** For systemd: where the files are written instead of printed. */
  readonly to?: string
  /** For a crontab of one user, which has no column for one. */
  readonly personal?: boolean
}

/** `refpoint cron`: what to give to cron, or to systemd, so that things run when the configuration says. */
export async function cron(context: Context, flags: CronFlags): Promise<void> {
  const { output, cwd } = context
  if (flags.to !== undefined && flags.systemd !== true) {
    throw new RefpointError('usage', '--to is for --systemd', { hint: 'A crontab is printed: refpoint cron > file.' })
  }
  const config = await readConfig(context, flags)
  const jobs = scheduledJobs(config)
  if (flags.systemd !== true) {
    const lines = crontab(config, jobs, flags.personal === true)
    for (const line of lines) output.line(line)
    output.result({ lines })
    if (config.zone !== undefined && config.zone !== systemZone()) {
      output.note(`warning: Debian's cron does not know CRON_TZ and goes by the zone of the host, ${systemZone()}`)
    }
    return
  }
  const files = systemdUnits(config, jobs)
  output.result({ files: Object.fromEntries(files) })
  if (flags.to === undefined) {
    for (const [name, text] of files) output.line(`# ${name}\n${text}`)
    return
  }
  const folder = resolve(cwd, flags.to)
  await mkdir(folder, { recursive: true })
  for (const [name, text] of files) await writeFile(join(folder, name), text)
  const timers = [...files.keys()].filter((name) => name.endsWith('.timer'))
  output.line(`${files.size} files are in ${folder}. To start them:`)
  output.line(`  systemctl daemon-reload && systemctl enable --now ${timers.join(' ')}`)
}

/** The lines of a file for /etc/cron.d, or of a user's own crontab. */
export function crontab(config: Config, jobs: readonly ScheduledJob[], personal: boolean): readonly string[] {
  const [node = '', script = ''] = [process.execPath, process.argv[1]]
  const named = basename(script) === 'refpoint'
  const path = [dirname(node), ...(named ? [dirname(script)] : []), '/usr/local/bin', '/usr/bin', '/bin', '/usr/sbin', '/sbin']
  const command = named ? ['refpoint'] : [node, script]
  const user = personal ? '' : `${userInfo().username}  `
  return [
    `# Made by 'refpoint cron' from ${config.file.replaceAll('\n', ' ')}; make it anew when a schedule changes there.`,
    `PATH=${[...new Set(path)].join(':')}`,
    ...(config.zone === undefined ? [] : [`CRON_TZ=${config.zone}`]),
    ...jobs.map(({ expression, args }) => {
      const line = [...command, '--config', config.file, ...args].map(quote).join(' ')
      // To cron a bare % is the end of the line.
      return `${expression}  ${user}${line.replaceAll('%', '\\%')}`
    }),
  ]
}

function quote(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`
}

/** Unit files by their names: a timer for each job, and a service for each kind. */
export function systemdUnits(config: Config, jobs: readonly ScheduledJob[]): ReadonlyMap<string, string> {
  const files = new Map<string, string>()
  for (const { unit, expression, args } of jobs) {
    const [kind = '', machine] = unit.split('@')
    const service = `refpoint-${kind}${machine === undefined ? '' : '@'}.service`
    const command = [process.execPath, process.argv[1] ?? '', '--config', config.file, ...args.map((arg) => (arg === machine ? '%i' : arg))]
    files.set(service, lines([
      '[Unit]',
      `Description=refpoint ${kind}${machine === undefined ? '' : ' of %i'}`,
      '[Service]',
      'Type=oneshot',
      // That the run before is still going is no failure of this one.
      'SuccessExitStatus=11',
      `ExecStart=${command.map((word) => (word === '%i' ? word : unitQuote(word))).join(' ')}`,
    ]))
    files.set(`refpoint-${unit}.timer`, lines([
      '[Unit]',
      `Description=refpoint ${unit.replace('@', ' of ')}`,
      '[Timer]',
      ...onCalendar(expression, config.zone).map((when) => `OnCalendar=${when}`),
      'Persistent=true',
      'AccuracySec=1s',
      '[Install]',
      'WantedBy=timers.target',
    ]))
  }
  return files
}

function lines(text: readonly string[]): string {
  return `${text.join('\n')}\n`
}

/** As systemd.service(5) reads a word of a command line. */
function unitQuote(word: string): string {
  const escaped = word.replaceAll('%', '%%').replaceAll('$', '$$$$')
  return /^[\w@%+=:,./$-]+$/.test(escaped) ? escaped : `"${escaped.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`
}
