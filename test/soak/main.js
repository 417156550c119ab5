/*
 * `npm run soak -- --days 365 --seed 1`: years of a machine in minutes; see soak.js. Ends non-zero on the first lie.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { Soak } from './soak.js'

const { values } = parseArgs({
  options: {
    days: { type: 'string', default: '365' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 2 ** 31)) },
    scale: { type: 'string', default: '1' },
    work: { type: 'string', default: tmpdir() },
    // Expects of one point what it never was, to see that it is noticed.
    forge: { type: 'boolean', default: false },
    // Turns the audit off, to see that lies are noticed.
    'no-audit': { type: 'boolean', default: false },
  },
})
const [days, seed, scale] = [values.days, values.seed, values.scale].map(Number)
if (![days, seed, scale].every((number) => Number.isInteger(number) && number > 0)) {
  console.error('npm run soak -- [--days <n>] [--seed <n>] [--scale <n>] [--work <folder>]')
  process.exit(2)
}
const folder = mkdtempSync(join(values.work, 'refpoint-soak-'))
console.log(`${days} days, seed ${seed}, disks of ${6 * scale} MiB`)
const started = performance.now()
try {
  const figures = await new Soak({ folder, seed, scale, forge: values.forge, audit: !values['no-audit'], log: (text) => console.log(text) }).run(days)
  const { rss, heapUsed } = process.memoryUsage()
  console.log({ ...figures, rssMB: Math.round(rss / 1e6), heapMB: Math.round(heapUsed / 1e6), seconds: Math.round((performance.now() - started) / 1000) })
} catch (error) {
  console.error(error)
  process.exitCode = 1
} finally {
  rmSync(folder, { recursive: true, force: true })
}
