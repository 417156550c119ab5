import { spawn } from 'node:child_process'
import { readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { has } from './programs.js'

const environment = {
  ...process.env,
  BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK: 'yes',
  BORG_RELOCATED_REPO_ACCESS_IS_OK: 'yes',
  RESTIC_PASSWORD: 'bench',
}

/**
 * Runs a program to its end. Seconds are of the whole process, peak memory of the largest process in it (bytes; null
 * where /usr/bin/time is not installed). A program that fails ends the bench with what it said.
 */
export async function run(command, args, { cwd } = {}) {
  const report = join(tmpdir(), `refpoint-bench-${process.pid}.time`)
  const timed = has('/usr/bin/time')
  const [program, ...rest] = timed ? ['/usr/bin/time', '-f', '%M', '-o', report, command, ...args] : [command, ...args]
  const started = performance.now()
  const child = spawn(program, rest, { cwd, env: environment, stdio: ['ignore', 'pipe', 'pipe'] })
  const output = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr']) child[name].on('data', (chunk) => (output[name] += chunk))
  const status = await new Promise((done, fail) => child.on('error', fail).on('close', done))
  const seconds = (performance.now() - started) / 1000
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: status ${status}\n${output.stderr}${output.stdout}`)
  if (!timed) return { seconds, peakBytes: null, stdout: output.stdout }
  const peakBytes = Number((await readFile(report, 'utf8')).trim().split('\n').at(-1)) * 1024
  await rm(report)
  return { seconds, peakBytes, stdout: output.stdout }
}

/** The same for a line of shell, such as a program and the sync of what it wrote. */
export function shell(line, { cwd } = {}) {
  return run('bash', ['-euo', 'pipefail', '-c', line], { cwd })
}

/**
 * Measures several contestants side by side, round by round, in an order that turns around every round, so that a
 * noisy neighbour or a warming cache is nobody's advantage. `before` prepares a round for all of them.
 * @returns for each contestant that measured anything, by name: the medians, and what its last measurement brought.
 */
export async function contest(bench, contestants, before = async () => {}) {
  const names = Object.keys(contestants)
  const found = new Map(names.map((name) => [name, []]))
  for (let round = 0; round < bench.runs; round += 1) {
    await before(round)
    for (const name of round % 2 === 0 ? names : names.toReversed()) {
      const result = await contestants[name](round)
      found.get(name).push(result)
      bench.log(`${name}, ${round + 1} of ${bench.runs}: ${result.seconds.toFixed(2)} s`)
    }
  }
  return Object.fromEntries(names.map((name) => [name, summary(found.get(name))]))
}

function summary(results) {
  const peaks = results.map(({ peakBytes }) => peakBytes).filter((bytes) => typeof bytes === 'number')
  return {
    ...results.at(-1),
    seconds: median(results.map(({ seconds }) => seconds)),
    peakBytes: peaks.length > 0 ? Math.max(...peaks) : null,
  }
}

export function median(values) {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}
