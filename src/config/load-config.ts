import { readFile } from 'node:fs/promises'
import { type Document, LineCounter, parseDocument } from 'yaml'
import { RefpointError } from '../model/errors.js'
import type { Config } from './config.js'
import { explainIssue, type Fault } from './explain-issue.js'
import { type ConfigLocation, findConfig } from './find-config.js'
import { resolveConfig } from './resolve-config.js'
import { configSchema } from './schema.js'

/**
 * Finds, reads and checks the configuration.
 * @throws RefpointError `config`: no file, unreadable, not YAML, or not what is expected; every fault of the file is
 * told, with line and column.
 */
export async function loadConfig(location: ConfigLocation): Promise<Config> {
  const file = await findConfig(location)
  return parseConfig(await readText(file), file)
}

/** Checks the text of a configuration; `file` is its absolute path, for messages and for relative paths. */
export function parseConfig(text: string, file: string): Config {
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false })
  const broken = document.errors.map(({ message, pos }) => ({ ...lines.linePos(pos[0]), key: '', message }))
  if (broken.length > 0) throw faulty(file, broken)
  const parsed = configSchema.safeParse(toValues(document, file))
  if (parsed.success) return resolveConfig(parsed.data, file)
  const faults = parsed.error.issues.flatMap((issue) => explainIssue(issue, document, lines))
  // A misspelt key is missing under its right name, too: told once.
  const misspelt = new Set(faults.map(({ meant }) => meant))
  throw faulty(
    file,
    faults.filter(({ key }) => !misspelt.has(key)).toSorted((a, b) => a.line - b.line || a.col - b.col),
  )
}

/** Aliases are resolved here: too many of them throw (a few lines can ask for terabytes). */
function toValues(document: Document, file: string): unknown {
  try {
    return document.toJS({ maxAliasCount: 100 })
  } catch (error) {
    const message = `aliases can't be resolved: ${error instanceof Error ? error.message : String(error)}`
    throw faulty(file, [{ line: 1, col: 1, key: '', message }])
  }
}

function faulty(file: string, faults: readonly Fault[]): RefpointError {
  const told = faults.map(({ line, col, key, message }) => {
    return `${file}:${line}:${col}: ${key === '' ? '' : `${key}: `}${message}`
  })
  return new RefpointError('config', told.join('\n'), {
    hint: 'Nothing was done. Correct the configuration and run the command again.',
    fields: { file, faults },
  })
}

async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause)
    throw new RefpointError('config', `can't read the configuration ${file}: ${why}`, { cause, fields: { file } })
  }
}
