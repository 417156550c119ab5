import { mkdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { copyImage } from './image.js'
import { contest, run, shell } from './measure.js'
import { has } from './programs.js'
import { setUp } from './refpoint.js'
import { goal, memoryGoal } from './table.js'

/** A full of the image. Node 22.15 and later have zstd of their own. */
export async function full(bench) {
  const { image, work } = bench
  const source = join(work, 'source.raw')
  await mkdir(work, { recursive: true })
  await copyImage(image, source)
  const ours = await setUp(bench, 'ours', { tracker: 'image', stores: { root: source } })
  const { stdout } = await run(bench.node, ['-p', '"zstdCompressSync" in zlib'])
  const limit = stdout.trim() === 'true' ? 0.45 : 0.75
  const found = await contest(bench, {
    refpoint: async () => {
      await ours.reset()
      return await ours.backup()
    },
    ...yardsticks(bench, source),
  })
  const { refpoint, ...others } = found
  const zstd = others['zstd -1 -T0']
  return [
    { what: 'refpoint backup', ...refpoint },
    ...Object.entries(others).map(([what, result]) => ({
      what, ...result, value: `refpoint takes ${(refpoint.seconds / result.seconds).toFixed(2)}`,
    })),
    ...(zstd === undefined
      ? []
      : [
          goal('time, of zstd -1 -T0', refpoint.seconds / zstd.seconds, '≤', limit),
          goal('stored, of zstd -1 -T0', refpoint.storedBytes / zstd.storedBytes, '≤', 1.03),
        ]),
    ...memoryGoal('peak memory', refpoint, 300),
  ]
}

function yardsticks({ work, restic }, source) {
  const out = join(work, 'out')
  const stored = async (ran) => ({ ...ran, storedBytes: (await stat(out)).size })
  const all = {}
  if (has('zstd')) {
    all['zstd -1 -T0'] = async () => {
      await rm(out, { force: true })
      return stored(await shell(`zstd -1 -T0 -q '${source}' -o '${out}'; sync '${out}'`))
    }
  }
  if (has('borg')) {
    all['borg create, lz4'] = async (round) => {
      await initBorg(`${work}/borg-${round}`)
      const ran = await shell(borgCreate(`${work}/borg-${round}::1`, source))
      await rm(`${work}/borg-${round}`, { recursive: true })
      return ran
    }
  }
  if (has('qemu-img')) {
    all['qemu-img convert -c'] = async () => {
      await rm(out, { force: true })
      const convert = `qemu-img convert -f raw -O qcow2 -c -o compression_type=zstd '${source}' '${out}'`
      return stored(await shell(`${convert}; sync '${out}'`))
    }
  }
  if (restic && has('restic')) {
    all['restic backup'] = async (round) => {
      await run('restic', ['-r', `${work}/restic-${round}`, 'init'])
      const ran = await run('restic', ['-r', `${work}/restic-${round}`, '--no-cache', '-q', 'backup', source])
      await rm(`${work}/restic-${round}`, { recursive: true })
      return ran
    }
  }
  return all
}

export async function initBorg(repository) {
  await run('borg', ['init', '--encryption=none', repository])
}

/** With pieces of 64 KiB, as refpoint has them; it syncs what it writes by itself. */
export function borgCreate(archive, source) {
  return `borg create --compression lz4 --chunker-params fixed,65536 --sparse '${archive}' '${source}'`
}
