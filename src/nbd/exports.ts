import type { Backend } from './backend.js'

export interface ExportName {
  readonly name: string
  /** One line for a person, shown by `nbdinfo --list`. */
  readonly description?: string
}

/** Exports that come and go. A `Backend` it returns stays open while a connection uses it. */
export interface ExportLookup {
  list(): readonly ExportName[]
  open(name: string): Backend | undefined | Promise<Backend | undefined>
}

export type Exports = ReadonlyMap<string, Backend> | ExportLookup

/** One view of both forms; where there is exactly one export, the empty name means that one. */
export function exportLookup(exports: Exports): ExportLookup {
  const lookup = exports instanceof Map ? mapLookup(exports) : (exports as ExportLookup)
  return {
    list: () => lookup.list(),
    open: async (name) => {
      const found = await lookup.open(name)
      if (found !== undefined || name !== '') return found
      const [only, ...others] = lookup.list()
      return only !== undefined && others.length === 0 ? lookup.open(only.name) : undefined
    },
  }
}

function mapLookup(exports: ReadonlyMap<string, Backend>): ExportLookup {
  return {
    list: () => [...exports.keys()].map((name) => ({ name })),
    open: (name) => exports.get(name),
  }
}
