/*
 * `npm run bench`: refpoint beside the yardsticks that are installed, in the same run, on the same image. Whole
 * processes, warm cache, output made durable on both sides, medians; see --help.
 */
import { availableParallelism, cpus } from 'node:os'
import { rm } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { makeImage } from './image.js'
import { compared } from './compared.js'
import { full } from './full.js'
import { incremental } from './incremental.js'
import { unchanged } from './unchanged.js'
import { qemu } from './qemu.js'
import { openChain } from './open-chain.js'
import { many } from './many.js'
import { restore } from './restore.js'
import { retention } from './retention.js'
import { serve } from './serve.js'
import { has, versionOf } from './programs.js'
import { formatTable } from './table.js'

const MiB = 2 ** 20
const GiB = 2 ** 30

/** `full` is what the goals are for; `small` tries that everything works. */
const sizes = {
  full: {
    imageBytes: 8 * GiB, contentBytes: 2.5e9, blocks: 400, chain: 20,
    sparse: { large: 1024 * GiB, small: 10 * GiB, written: GiB },
    open: { storeBytes: 1024 * GiB, points: 100, changedBytes: 10 * GiB },
    many: [{ machines: 1, points: 10_000 }, { machines: 1000, points: 1 }],
    year: { days: 365, bytes: 512 * MiB },
  },
  small: {
    imageBytes: 512 * MiB, contentBytes: 128 * MiB, blocks: 40, chain: 4,
    sparse: { large: 1024 * GiB, small: 10 * GiB, written: 32 * MiB },
    open: { storeBytes: 32 * GiB, points: 10, changedBytes: GiB },
    many: [{ machines: 1, points: 500 }, { machines: 50, points: 1 }],
    year: { days: 60, bytes: 64 * MiB },
  },
}

const sections = { full, incremental, compared, unchanged, restore, serve, qemu, open: openChain, many, retention }

const help = `npm run bench -- [section…] [options]

Sections (default: all):
  full         a full of the image, beside zstd, borg, qemu-img and restic
  incremental  a tracked incremental of 400 changed blocks of 64 KiB
  compared     an incremental of an image that nothing tracks, beside borg's second run
  unchanged    no change at all, on a sparse disk of 1 TiB and on one of 10 GiB
  restore      a chain of 20 points, beside borg extract
  serve        nbdcopy from and to a tracked disk, beside nbdkit file
  qemu         a running machine of QEMU: no change, 400 changed blocks, a full beside that of a file, scattered writes
  retention    folding a month of dailies, pruning and listing long histories, restoring after a year
  open         time to the first byte, and memory, of a synthetic chain: 1 TiB, 100 points; also fragmented to 8 KiB
  many         points and status of 10,000 points of one machine, and of 1,000 machines

Options:
  --runs <n>      each is measured so often, and the median told (default 5)
  --size <size>   full, or small to try that it works (default full)
  --work <dir>    where the image is kept and all is written (default /var/tmp/refpoint-bench)
  --restic        also run restic, which takes long
  --node <path>   the Node.js that runs refpoint (default: this one)

Goals are for the full size on a machine with nothing else to do; the audit of tracked incrementals is off.`

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    runs: { type: 'string', default: '5' },
    size: { type: 'string', default: 'full' },
    work: { type: 'string', default: '/var/tmp/refpoint-bench' },
    node: { type: 'string', default: process.execPath },
    restic: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})

if (values.help) console.log(help)
else await run()

async function run() {
  const size = sizes[values.size]
  const runs = Number(values.runs)
  const unknown = positionals.filter((name) => !(name in sections))
  if (size === undefined || !(runs >= 1) || unknown.length > 0) {
    console.error(`${unknown.length > 0 ? `no such section: ${unknown.join(', ')}` : 'wrong --size or --runs'}\n\n${help}`)
    process.exitCode = 2
    return
  }
  const yardsticks = ['zstd', 'borg', 'restic', 'qemu-img', 'qemu-system-x86_64', 'nbdkit', 'nbdcopy'].filter(has)
  console.log(`${cpus()[0]?.model ?? 'unknown processor'}, ${availableParallelism()} cores`)
  console.log(['node', ...yardsticks].map((name) => versionOf(name === 'node' ? values.node : name)).join(' · '))
  const image = await makeImage(values.work, size)
  console.log(`Image: ${image.path}, ${gib(image.sizeBytes)}, of which ${gib(image.allocatedBytes)} hold data`)
  for (const name of positionals.length > 0 ? positionals : Object.keys(sections)) {
    const work = `${values.work}/${name}`
    await rm(work, { recursive: true, force: true })
    const bench = { ...values, runs, size, image, work, log: (text) => console.error(`  ${text}`) }
    console.log(`\n${name}: median of ${runs}, size ${values.size}`)
    try {
      for (const line of formatTable(await sections[name](bench))) console.log(`  ${line}`)
    } finally {
      await rm(work, { recursive: true, force: true })
    }
  }
}

function gib(bytes) {
  return `${(bytes / GiB).toFixed(2)} GiB`
}
