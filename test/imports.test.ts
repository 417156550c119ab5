import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { describe, expect, it } from 'vitest'

/*
 * Who may import whom. A room is a folder of src/; the port of trackers and of repositories is a room of its own, so
 * that the core can know the port and no implementation. Composition roots may import everything.
 */
const src = resolve(import.meta.dirname, '../src')

const may: Readonly<Record<string, readonly string[]>> = {
  model: [],
  files: ['model'],
  programs: ['model'],
  nbd: ['model'],
  compress: ['model'],
  qmp: ['model'],
  archive: ['model', 'compress'],
  'tracker port': ['model'],
  'trackers/disk': ['model', 'nbd', 'files', 'tracker port'],
  'trackers/image': ['model', 'nbd', 'files', 'tracker port'],
  /** What trackers of dirty bitmaps have in common. */
  'trackers/bitmaps': ['model', 'nbd', 'tracker port'],
  'trackers/qcow2': ['model', 'nbd', 'qmp', 'tracker port', 'trackers/bitmaps'],
  'trackers/qemu': ['model', 'nbd', 'files', 'qmp', 'tracker port', 'trackers/bitmaps'],
  'trackers/combined': ['model', 'tracker port'],
  'repository port': ['model'],
  repository: ['model', 'files', 'repository port'],
  'repository/local': ['model', 'files', 'repository port', 'repository'],
  'repository/memory': ['model', 'repository port', 'repository'],
  schedule: [],
  config: ['model', 'schedule'],
  operations: ['model', 'schedule', 'archive', 'compress', 'tracker port', 'repository port', 'repository'],
  cli: ['operations', 'schedule', 'config', 'model', 'repository', 'repository port'],
}

const compositionRoots = [
  'main.ts',
  'index.ts',
  'compose.ts',
  'compose-disk.ts',
  'compose-hooks.ts',
  'compose-limits.ts',
  'compose-offline.ts',
  'compose-runs.ts',
  'worker.ts',
]

function roomOf(file: string): string | undefined {
  const path = relative(src, file)
  if (compositionRoots.includes(path)) return undefined
  if (path === 'trackers/tracker.ts' || path === 'trackers/doctor.ts') return 'tracker port'
  if (path === 'repository/repository.ts') return 'repository port'
  const parts = dirname(path).split('/')
  const deep = parts.slice(0, 2).join('/')
  return deep in may ? deep : (parts[0] ?? '')
}

function sources(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => join(entry.parentPath, entry.name))
}

function importsOf(file: string): string[] {
  const text = readFileSync(file, 'utf8')
  return [...text.matchAll(/(?:from|import)\s*\(?\s*'(\.[^']+)'/g)].map((match) =>
    resolve(dirname(file), (match[1] ?? '').replace(/\.js$/, '.ts')),
  )
}

describe('imports between rooms', () => {
  it('go only where the rooms allow', () => {
    const broken: string[] = []
    for (const file of sources(src)) {
      const room = roomOf(file)
      if (room === undefined) continue
      const allowed = may[room]
      if (allowed === undefined) {
        broken.push(`${relative(src, file)}: no room named '${room}' is known`)
        continue
      }
      for (const target of importsOf(file)) {
        const other = roomOf(target)
        if (other === undefined)
          broken.push(`${relative(src, file)} imports the composition root ${relative(src, target)}`)
        else if (other !== room && !allowed.includes(other))
          broken.push(`${relative(src, file)} (${room}) imports ${relative(src, target)} (${other})`)
      }
    }
    expect(broken).toEqual([])
  })

  it('finds imports at all', () => {
    const counted = sources(src).reduce((sum, file) => sum + importsOf(file).length, 0)
    expect(counted).toBeGreaterThan(100)
  })
})
