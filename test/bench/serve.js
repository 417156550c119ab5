import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { copyImage } from './image.js'
import { contest, run } from './measure.js'
import { has } from './programs.js'
import { commandLine, importDisk } from './refpoint.js'
import { goal } from './table.js'

/** nbdcopy from and to a tracked disk, beside the same with the file behind nbdkit. */
export async function serve(bench) {
  if (!has('nbdcopy') || !has('nbdkit')) return [{ what: 'nbdcopy and nbdkit are not installed: nothing was measured' }]
  const { image, work } = bench
  await mkdir(work, { recursive: true })
  await importDisk(bench, image.path, join(work, 'disk'))
  await copyImage(image, join(work, 'file.raw'))
  const ours = await start(commandLine(bench, 'disk', 'serve', join(work, 'disk'), '--socket', join(work, 'ours.sock')), join(work, 'ours.sock'))
  const theirs = await start(['nbdkit', '-f', '-U', join(work, 'theirs.sock'), 'file', join(work, 'file.raw')], join(work, 'theirs.sock'))
  const uris = {
    'refpoint disk serve': `nbd+unix:///disk?socket=${join(work, 'ours.sock')}`,
    'nbdkit file': `nbd+unix:///?socket=${join(work, 'theirs.sock')}`,
  }
  try {
    const rows = []
    for (const [way, copy] of [
      ['read', (uri) => run('nbdcopy', [uri, 'null:'])],
      ['write', (uri) => run('nbdcopy', ['--flush', image.path, uri])],
    ]) {
      const contestants = Object.entries(uris).map(([name, uri]) => [name, () => copy(uri)])
      const found = await contest(bench, Object.fromEntries(contestants))
      for (const name of Object.keys(uris)) {
        rows.push({ what: `${name}, nbdcopy ${way}`, seconds: found[name].seconds })
      }
      const speed = found['nbdkit file'].seconds / found['refpoint disk serve'].seconds
      rows.push(goal(`${way}: speed, of nbdkit file`, speed, '≥', 0.5))
    }
    rows.push({ what: 'refpoint disk serve', peakBytes: await peakOf(ours.pid) })
    return rows
  } finally {
    await Promise.all([ours.stop(), theirs.stop()])
  }
}

/** A server that listens; `stop` ends it by its own process ID. */
async function start([program, ...args], socket) {
  const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'inherit'] })
  const ended = new Promise((done) => child.on('close', done))
  while (!existsSync(socket)) {
    if (child.exitCode !== null) throw new Error(`${program} ended with status ${child.exitCode}`)
    await new Promise((done) => setTimeout(done, 50))
  }
  return {
    pid: child.pid,
    async stop() {
      child.kill('SIGTERM')
      await ended
    },
  }
}

async function peakOf(pid) {
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024
}
