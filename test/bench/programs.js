import { spawnSync } from 'node:child_process'

/** Whether a program is installed. */
export function has(program) {
  return spawnSync('sh', ['-c', `command -v "$1"`, 'sh', program], { stdio: 'ignore' }).status === 0
}

/** The first line in which a program tells its version. */
export function versionOf(program) {
  const argument = program === 'restic' ? 'version' : '--version'
  const { stdout } = spawnSync(program, [argument], { encoding: 'utf8' })
  const line = (stdout ?? '').split('\n')[0] ?? ''
  const version = /\d+\.\d+(?:\.\d+)?/.exec(line)?.[0] ?? line
  return `${program.split('/').at(-1)} ${version}`
}
