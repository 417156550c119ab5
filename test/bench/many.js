import { mkdir, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { contest, run } from './measure.js'
import { commandLine } from './refpoint.js'
import { goal, seconds } from './table.js'

const goalSeconds = 2

/** Listing of many points of one machine, and of many machines. */
export async function many(bench) {
  const rows = []
  for (const { machines, points } of bench.size.many) {
    const folder = join(bench.work, `${machines}-of-${points}`)
    const repository = join(folder, 'repository')
    await mkdir(folder, { recursive: true })
    const script = resolve(import.meta.dirname, 'make-many.js')
    await run(bench.node, [script, repository, String(machines), String(points)])
    const config = join(folder, 'refpoint.yaml')
    const one = { tracker: 'disk', stores: { root: '/nowhere/root', data: '/nowhere/data' } }
    const names = Array.from({ length: machines }, (_, i) => `machine${String(i + 1).padStart(4, '0')}`)
    const defaults = { schedule: '7 * * * *' }
    await writeFile(config, JSON.stringify({ repository, defaults, machines: Object.fromEntries(names.map((name) => [name, one])) }))
    const listing = (...args) => () => {
      const [node, ...command] = commandLine(bench, '--config', config, ...args)
      return run(node, command)
    }
    const found = await contest(bench, { points: listing('points'), status: listing('status') })
    for (const [name, { peakBytes, ...result }] of Object.entries(found)) {
      const what = `${name}, ${machines} x ${points} points`
      rows.push({ what, peakBytes, seconds: result.seconds }, goal(`${what}: time`, result.seconds, '≤', goalSeconds, seconds))
    }
  }
  return rows
}
