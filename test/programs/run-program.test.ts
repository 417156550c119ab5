import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { runProgram } from '../../src/programs/run-program.js'
import { temporaryFolder } from '../temporary.js'

const quick = { env: {}, stdin: '', timeoutMs: 60_000 }

function isThere(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}

it('gives a program its arguments as they are, its input and its environment, and keeps what it prints', async () => {
  const command = ['sh', '-c', 'cat; echo "$1 $REFPOINT_EVENT" >&2', 'sh', '$(touch x); "quoted"']
  const end = await runProgram({ ...quick, command, stdin: '{"a":1}\n', env: { REFPOINT_EVENT: 'failure' } })
  expect(end).toMatchObject({ ok: true, how: 'ended with status 0' })
  expect(end.output).toContain('{"a":1}')
  expect(end.output).toContain('$(touch x); "quoted" failure')
})

it.each([
  [['false'], 'ended with status 1'],
  [['sh', '-c', 'kill -9 $$'], 'was killed by SIGKILL'],
  [['/no/such/program'], /^could not be started: .*ENOENT/],
  [[import.meta.dirname], /^could not be started: .*EACCES/],
] as const)('tells how %j ends', async (command, how) => {
  const end = await runProgram({ ...quick, command })
  expect(end.ok).toBe(false)
  expect(end.how).toMatch(how)
})

it('does not mind a program that does not read its input, and keeps only the end of much output', async () => {
  const end = await runProgram({ ...quick, command: ['true'], stdin: 'x'.repeat(10 << 20) })
  expect(end.ok).toBe(true)
  const loud = await runProgram({ ...quick, command: ['sh', '-c', 'head -c 30000000 /dev/zero | tr "\\0" y; echo the end'] })
  expect(loud.ok).toBe(true)
  expect(loud.output).toMatch(/^y{4000,}the end$/)
  expect(loud.output.length).toBeLessThanOrEqual(4096)
})

it.each(['timeout', 'signal'] as const)('stops a program and all that it started at a %s', async (why) => {
  const file = join(temporaryFolder(), 'pids')
  const stop = new AbortController()
  // The shell ignores the polite signal, and so does what it started.
  const script = `trap "" TERM; sh -c 'trap "" TERM; echo $$ >> ${file}; while :; do sleep 1; done' & echo $$ >> ${file}; wait; wait`
  const running = runProgram({
    ...quick,
    command: ['sh', '-c', script],
    timeoutMs: why === 'timeout' ? 3000 : 60_000,
    signal: stop.signal,
  })
  const pids = (): number[] => (existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n').map(Number) : [])
  while (pids().length < 2 && why === 'signal') await new Promise((resolve) => setTimeout(resolve, 20))
  if (why === 'signal') stop.abort()
  const end = await running
  expect(end.ok).toBe(false)
  expect(end.how).toMatch(why === 'timeout' ? /did not end within 3 s and was stopped/ : /because the run was cancelled/)
  // A slow host may not have come to the second when the time was up.
  expect(pids().length).toBeGreaterThanOrEqual(why === 'timeout' ? 1 : 2)
  while (pids().some(isThere)) await new Promise((resolve) => setTimeout(resolve, 20))
})

it('does not wait for what a program leaves running with its output open', async () => {
  const file = join(temporaryFolder(), 'pid')
  const started = performance.now()
  const end = await runProgram({ ...quick, command: ['sh', '-c', `sleep 600 & echo $! > ${file}`] })
  process.kill(Number(readFileSync(file, 'utf8')), 'SIGKILL')
  expect(end.ok).toBe(true)
  expect(performance.now() - started).toBeLessThan(60_000)
})
