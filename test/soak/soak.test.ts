import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import { temporaryFolder } from '../temporary.js'
import { runSeed } from '../trackers/disk/random.js'

const seed = runSeed()
const days = process.env['REFPOINT_LONG'] === '1' ? 60 : 2
const program = join(import.meta.dirname, 'main.js')

async function soak(...args: readonly string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(process.execPath, [program, '--work', temporaryFolder(), ...args])
  return stdout
}

it(`lives ${days} days without a lie (seed ${seed})`, { timeout: 3_600_000 }, async () => {
  expect(await soak('--days', String(days), '--seed', String(seed))).toMatch(/restores: [1-9]/)
})

it('ends at a lie, and names the seed and when it was', { timeout: 600_000 }, async () => {
  const broken = soak('--days', '2', '--seed', '1', '--forge')
  await expect(broken).rejects.toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/seed 1, day \d+, hour \d+: point #\d+: \w+ is not what it was/),
  })
})

it('can fail: without audits, a lie is not caught in time', { timeout: 600_000 }, async () => {
  await expect(soak('--days', '21', '--seed', '1', '--no-audit')).rejects.toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/seed 1, day \d+, hour \d+: a lie about \w+ was not caught in 16 runs/),
  })
})
