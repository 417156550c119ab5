import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { run } from './measure.js'

const program = resolve(import.meta.dirname, '../../dist/main.js')

/**
 * A repository and a configuration of one machine, `bench`, in a folder of their own. The audit is off: the goals are
 * without it, and what it takes on top is its own budget.
 */
export async function setUp({ node, work }, name, machine) {
  const folder = join(work, name)
  const config = join(folder, 'refpoint.yaml')
  const repository = join(folder, 'repository')
  await mkdir(folder, { recursive: true })
  const defaults = { audit: { bytes: 0, time: '0s' } }
  await writeFile(config, JSON.stringify({ repository, defaults, machines: { bench: machine } }))
  const refpoint = (...args) => run(node, [program, '--config', config, ...args])
  await refpoint('init')

  return {
    repository,
    refpoint,
    /** Everything is forgotten, for another full. */
    async reset() {
      await rm(repository, { recursive: true, force: true })
      await refpoint('init')
    },
    /** A point, with what its manifest says of its cost. */
    async backup(...args) {
      const ran = await refpoint('backup', 'bench', '--json', ...args)
      const [point] = JSON.parse(ran.stdout).points
      const [store] = point.stores
      return { ...ran, storedBytes: point.archive.bytes, mode: store.mode, changedBytes: store.changedBytes }
    },
  }
}

/** A tracked disk with the content of an image. */
export async function importDisk({ node }, image, folder) {
  await run(node, [program, 'disk', 'import', image, folder])
}

/** A command line for whoever must be able to stop it. */
export function commandLine({ node }, ...args) {
  return [node, program, ...args]
}
