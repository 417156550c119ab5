#!/usr/bin/env node
/*
 * The program. Signals become an abort that lets the work end cleanly; a second one does not wait. The only exit.
 */
import { createRequire } from 'node:module'
import { runProgram } from './cli/program.js'
import { RefpointError } from './model/errors.js'

const { version } = createRequire(import.meta.url)('../package.json') as { version: string }
const stop = new AbortController()
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(name, () => {
    if (stop.signal.aborted) process.exit(130)
    stop.abort(new RefpointError('cancelled', `cancelled by ${name}; nothing is lost`))
  })
}
// A reader such as `head` that has seen enough is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
})

process.exitCode = await runProgram(process.argv.slice(2), {
  version,
  services: () => import('./compose.js'),
  disk: async () => (await import('./compose-disk.js')).diskActions,
  signal: stop.signal,
  cwd: process.cwd(),
  env: process.env,
  stdout: process.stdout,
  stderr: process.stderr,
})
