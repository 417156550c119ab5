import { existsSync } from 'node:fs'
import { rename, rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { contest, run } from './measure.js'
import { goal, megabytes, seconds } from './table.js'

const script = (name) => resolve(import.meta.dirname, name)

/**
 * Opening a long chain of a disk that is full of data, for a restore: until the first byte is there, and the memory
 * that it takes. The chains are synthetic, made once and kept: their content is one and the same MiB over and over.
 */
export async function openChain(bench) {
  const { size, node } = bench
  const { storeBytes, points, changedBytes } = size.open
  const rows = []
  for (const [name, extentBytes] of [['in extents of 1 MiB', 2 ** 20], ['fragmented to 8 KiB', 8192]]) {
    const repository = join(bench.work, '..', `chain-${storeBytes / 2 ** 30}-${points}-${extentBytes}`)
    if (!existsSync(repository)) {
      bench.log(`making the chain ${repository}`)
      const making = `${repository}.making`
      await rm(making, { recursive: true, force: true })
      await run(node, [script('make-chain.js'), making, ...[storeBytes, points, changedBytes, extentBytes].map(String)])
      await rename(making, repository)
    }
    const { opening } = await contest(bench, {
      opening: async () => {
        const { stdout } = await run(node, [script('first-byte.js'), repository, join(bench.work, 'target')])
        return JSON.parse(stdout)
      },
    })
    rows.push(
      { what: `${storeBytes / 2 ** 30} GiB, ${points} points, ${name}`, ...opening },
      goal('time to the first byte', opening.seconds, '≤', 3, seconds),
      goal('peak memory, over the first 2 GiB', opening.peakBytes, '≤', 300e6, megabytes),
    )
  }
  return rows
}
